//! The session of a real agent is cut right after a message, in either direction: the run ends once, no output comes twice,
//! no lease is lost for good, and what was ordered is carried out.

use crate::support::House;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;

/// A proxy that knows where the messages of a session end.
struct Proxy {
    url: String,
    /// Messages until the cut; 0 and less: no cut.
    left: Arc<AtomicI64>,
    cuts: Arc<AtomicU64>,
}

impl Proxy {
    fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = server.trim_start_matches("http://").to_owned();
        let (left, cuts) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicU64::new(0)));
        let cutter = Cutter { left: Arc::clone(&left), cuts: Arc::clone(&cuts) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(behind) = TcpStream::connect(&server) {
                    cutter.join(&client, &behind);
                }
            }
        });
        Self { url, left, cuts }
    }

    /// The session ends right after this many more messages.
    fn cut_after(&self, messages: i64) {
        self.left.store(messages, Ordering::SeqCst);
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Cutter {
    left: Arc<AtomicI64>,
    cuts: Arc<AtomicU64>,
}

impl Cutter {
    fn join(&self, client: &TcpStream, behind: &TcpStream) {
        for (from, to) in [(client, behind), (behind, client)] {
            let (from, to, cutter) = (from.try_clone().unwrap(), to.try_clone().unwrap(), self.clone());
            thread::spawn(move || {
                let _ = cutter.pump(&from, &to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    }

    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(byte(from)?);
        }
        to.write_all(&head)?;
        let text = String::from_utf8_lossy(&head);
        let first = text.lines().next().unwrap_or_default();
        if !first.contains("/session ") && !first.contains(" 101 ") {
            return io::copy(&mut from, &mut to).map(drop);
        }
        loop {
            let (frame, is_message) = frame(from)?;
            to.write_all(&frame)?;
            if is_message && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
        }
    }
}

fn byte(mut from: &TcpStream) -> io::Result<u8> {
    let mut one = [0];
    from.read_exact(&mut one).map(|()| one[0])
}

/// One frame of a WebSocket, and whether it is a message (RFC 6455, section 5.2).
fn frame(mut from: &TcpStream) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = vec![0; 2];
    from.read_exact(&mut bytes)?;
    let is_message = bytes[0] & 0x0F == 1;
    let is_masked = bytes[1] & 0x80 != 0;
    let more = match bytes[1] & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mut long = vec![0; more];
    from.read_exact(&mut long)?;
    let length = if more == 0 {
        usize::from(bytes[1] & 0x7F)
    } else {
        long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    let mut rest = vec![0; length + if is_masked { 4 } else { 0 }];
    from.read_exact(&mut rest)?;
    Ok(([bytes, long, rest].concat(), is_message))
}

/// A house with one worker behind a proxy.
fn house() -> (House, Proxy) {
    let mut house = House::open(0);
    let proxy = Proxy::before(&house.url);
    house.hire_at(&proxy.url, "w-1", "w-1");
    house.until("the worker is online", |h| !h.json(&["workers", "list"]).as_array().unwrap().is_empty());
    (house, proxy)
}

fn ended(house: &House, id: &str, state: &str) -> (u64, u64, usize) {
    house.until("it has ended", |h| h.show(id)["state"] == state);
    let run = house.show(id);
    let attempts = house.json(&["runs", "attempts", id]).as_array().unwrap().len();
    (run["epoch"].as_u64().unwrap(), run["losses"].as_u64().unwrap(), attempts)
}

#[test]
fn a_run_ends_once_wherever_its_session_is_cut() {
    let (house, proxy) = house();
    let binary = env!("CARGO_BIN_EXE_outlive");
    let script = format!("echo one; {binary} step checkpoint '{{\"i\":1}}'; echo two");
    for n in 1..=14 {
        proxy.cut_after(n);
        let id = house.start(&script);
        assert_eq!(ended(&house, &id, "succeeded"), (1, 0, 1), "cut after message {n}");
        assert_eq!(house.call(&["runs", "output", &id]).out, "one\ntwo\n", "cut after message {n}");
        let events = house.json(&["runs", "events", &id]);
        let ends = events.as_array().unwrap().iter().filter(|e| e["type"].as_str().unwrap().ends_with("finished"));
        assert_eq!(ends.count(), 1, "{events}");
    }
    assert!(proxy.cuts() >= 8, "the sessions were cut: {}", proxy.cuts());
}

#[test]
fn a_cancel_is_carried_out_wherever_the_session_is_cut() {
    let (house, proxy) = house();
    for n in 1..=4 {
        let id = house.start("echo on; exec sleep 60");
        house.until("it runs", |h| h.call(&["runs", "output", &id]).out == "on\n");
        proxy.cut_after(n);
        assert_eq!(house.call(&["runs", "cancel", &id]).code, 0);
        assert_eq!(ended(&house, &id, "cancelled"), (1, 0, 1), "cut after message {n}");
        assert_eq!(house.call(&["runs", "output", &id]).out, "on\n");
    }
    assert!(proxy.cuts() >= 3, "the sessions were cut: {}", proxy.cuts());
}

#[test]
fn a_drain_and_an_eviction_are_carried_out_wherever_the_session_is_cut() {
    let (house, proxy) = house();
    for n in 1..=3 {
        let id = house.start("echo on; until [ -e go ]; do sleep 0.02; done");
        house.until("it runs", |h| h.call(&["runs", "output", &id]).out == "on\n");
        proxy.cut_after(n);
        assert_eq!(house.call(&["workers", "drain", "w-1"]).code, 0);
        house.until("the session is cut", |_| proxy.left.load(Ordering::SeqCst) <= 0);
        let waits = house.start("echo later");
        assert_eq!(house.show(&id)["epoch"], 1, "a drain takes nothing away");
        assert_eq!(house.show(&waits)["state"], "queued", "and gives nothing");

        proxy.cut_after(n);
        assert_eq!(house.call(&["workers", "evict", "w-1"]).code, 0);
        house.until("it is taken away", |h| h.show(&id)["losses"] == 1);
        std::fs::write(house.folder.path().join("go"), "").unwrap();
        assert_eq!(house.call(&["workers", "undrain", "w-1"]).code, 0);
        assert_eq!(ended(&house, &id, "succeeded"), (2, 1, 2), "cut after message {n}");
        assert_eq!(house.call(&["runs", "output", &id]).out, "on\n", "of the second attempt alone");
        assert_eq!(ended(&house, &waits, "succeeded"), (1, 0, 1));
        std::fs::remove_file(house.folder.path().join("go")).unwrap();
    }
    assert!(proxy.cuts() >= 4, "the sessions were cut: {}", proxy.cuts());
}
