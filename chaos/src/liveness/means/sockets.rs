//! Cuts the connections of a process without its help: its sockets are borrowed from it and shut down, so that both sides read
//! the end of the connection, as after a reset on the way.

use rustix::fd::OwnedFd;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::BTreeSet;
use std::fs;

/// Connections of a process to a port, borrowed and not yet cut.
pub(in super::super) fn borrow(pid: u32, port: u16) -> Result<Vec<OwnedFd>, String> {
    let failed = |what: &'static str| move |e: rustix::io::Errno| format!("{what}: {e}");
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("no such process")?;
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(failed("no handle of the process"))?;
    let theirs = established(pid, port)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| e.to_string())?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        if let Some(inode) = inode
            && theirs.contains(&inode)
            && let Some(number) = entry.file_name().to_str().and_then(|n| n.parse().ok())
        {
            let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty());
            found.push(socket.map_err(failed("a connection cannot be borrowed"))?);
        }
    }
    Ok(found)
}

/// Cuts them; how many there were.
pub(in super::super) fn cut(sockets: &[OwnedFd]) -> usize {
    sockets.iter().filter(|socket| shutdown(socket, Shutdown::Both).is_ok()).count()
}

/// Inodes of connections from that process's network to a port.
fn established(pid: u32, port: u16) -> Result<BTreeSet<u64>, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/tcp")).map_err(|e| format!("no connections: {e}"))?;
    Ok(text.lines().filter_map(|line| inode(line, port)).collect())
}

/// `0: 0100007F:1F90 0100007F:D2B4 01 … inode …`: state 01 is an open connection.
fn inode(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let remote = fields.get(2)?.split_once(':')?.1;
    let wanted = u16::from_str_radix(remote, 16) == Ok(port) && *fields.get(3)? == "01";
    if wanted { fields.get(9)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_that_is_cut_ends_on_both_sides() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let borrowed = borrow(std::process::id(), port).unwrap();
        assert_eq!(cut(&borrowed), 1);
        assert_eq!((client.read(&mut [0]).unwrap(), server.read(&mut [0]).unwrap()), (0, 0));
    }
}
