//! The way to the server, as a session takes it: whether a WebSocket passes, what stands in between, how long a word takes, and
//! whether a connection on which nobody speaks stays.

use super::finding::Finding;
use futures_util::{SinkExt as _, StreamExt as _};
use outlive_api::client::socket::SessionSocket;
use outlive_api::client::{Client, ClientError};
use outlive_api::clock::nanos;
use outlive_api::ops::Peer;
use outlive_core::Millis;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

/// Words that are sent, one after the other.
const WORDS: usize = 20;
/// For so long nobody speaks: more than a beat of the default `lease_ttl`.
const SILENCE: Duration = Duration::from_secs(3);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// A word that takes longer is felt: it is a fifth of the reconnect window.
const SLOW: Duration = Duration::from_millis(200);

/// What became of a connection.
#[derive(Debug)]
pub(super) enum Way {
    /// It passes.
    Open { peer: Peer, slowest: Duration, silence: Silence },
    /// It was let in and then broke.
    Broken(String),
    /// It was not let in.
    Refused(ClientError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It was there after it.
    Stayed,
    /// It was cut after so long.
    CutAfter(Duration),
}

pub(super) async fn measure(client: &Client) -> Way {
    let mut socket = match client.echo().await {
        Ok(socket) => socket,
        Err(error) => return Way::Refused(error),
    };
    match walk(&mut socket).await {
        Ok((peer, slowest, silence)) => Way::Open { peer, slowest, silence },
        Err(why) => Way::Broken(why),
    }
}

async fn walk(socket: &mut SessionSocket) -> Result<(Peer, Duration, Silence), String> {
    let peer = serde_json::from_str(&heard(socket).await?).map_err(|e| e.to_string())?;
    let mut slowest = Duration::ZERO;
    for word in 0..WORDS {
        let sent = nanos();
        socket.send(Message::text(word.to_string())).await.map_err(|e| e.to_string())?;
        heard(socket).await?;
        slowest = slowest.max(since(sent));
    }
    let began = nanos();
    // Whatever comes now is its end.
    let silence = match tokio::time::timeout(SILENCE, socket.next()).await {
        Ok(_) => Silence::CutAfter(since(began)),
        Err(_) => match socket.send(Message::text("still there?")).await {
            Ok(()) if heard(socket).await.is_ok() => Silence::Stayed,
            _ => Silence::CutAfter(since(began)),
        },
    };
    Ok((peer, slowest, silence))
}

fn since(sent: u64) -> Duration {
    Duration::from_nanos(nanos().saturating_sub(sent))
}

async fn heard(socket: &mut SessionSocket) -> Result<String, String> {
    match tokio::time::timeout(PATIENCE, socket.next()).await {
        Ok(Some(Ok(Message::Text(text)))) => Ok(text.to_string()),
        Ok(Some(Ok(other))) => Err(format!("{other} came instead of a text")),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => Err("it was closed".to_owned()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// None if there is nothing to say: no server, or one that cannot be asked this.
pub(super) fn finding(way: &Way) -> Option<Finding> {
    let ms = |d: Duration| Millis(d.as_millis().try_into().unwrap_or(u64::MAX));
    let (peer, slowest, silence) = match way {
        Way::Refused(ClientError::Problem(problem)) if matches!(&*problem.code, "not_found" | "rate_limited") => {
            return None;
        }
        Way::Refused(ClientError::Unreachable { .. } | ClientError::Address(_)) => return None,
        Way::Refused(error) => {
            return Some(Finding::problem(
                "way",
                format!("requests pass and a WebSocket does not: {error}"),
                "let the proxy pass it on (HTTP/1.1 with the headers Upgrade and Connection; see deploy/compose/nginx.conf). Without \
                 it no worker can have a session: agents do not come online",
            ));
        }
        Way::Broken(why) => {
            return Some(Finding::problem(
                "way",
                format!("a WebSocket is let in and then breaks: {why}"),
                "see the log of what stands between this machine and the server",
            ));
        }
        Way::Open { peer, slowest, silence } => (peer, *slowest, *silence),
    };
    let proxy = if peer.proxied {
        format!("; through a proxy, which the server sees as {}", peer.address)
    } else {
        String::new()
    };
    let found = format!("a WebSocket passes, a word there and back takes at most {}{proxy}", ms(slowest));
    if let Silence::CutAfter(time) = silence {
        return Some(Finding::problem(
            "way",
            format!("{found}; it was cut after {} without a word", ms(time)),
            "raise the idle timeout of what stands in between (nginx: proxy_read_timeout) to a minute: beats come each few seconds, \
             and a session that is cut between two of them has to open again each time",
        ));
    }
    if slowest > SLOW {
        return Some(Finding::warning(
            "way",
            found,
            "every beat and report takes as long: look at the network in between",
        ));
    }
    if peer.proxied {
        return Some(Finding::warning(
            "way",
            found,
            "a lost connection is judged after 2.5 beats (5 s at least) instead of 1 s, since a proxy may have closed it; give \
             workers the servers' own addresses (--server a,b,c) if a death is to be noticed within a second",
        ));
    }
    Some(Finding::ok("way", found))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn open(proxied: bool, slowest: u64, silence: Silence) -> Option<Verdict> {
        let peer = Peer { address: "10.0.0.5:4711".into(), proxied };
        let way = Way::Open { peer, slowest: Duration::from_millis(slowest), silence };
        finding(&way).map(|found| found.verdict)
    }

    #[test]
    fn a_way_is_judged_by_the_worst_of_it() {
        assert_eq!(open(false, 3, Silence::Stayed), Some(Verdict::Ok));
        assert_eq!(open(true, 3, Silence::Stayed), Some(Verdict::Warning));
        assert_eq!(open(false, 300, Silence::Stayed), Some(Verdict::Warning));
        assert_eq!(open(true, 300, Silence::CutAfter(SILENCE)), Some(Verdict::Problem));
        let broken = finding(&Way::Broken("it was closed".into()));
        assert_eq!(broken.map(|found| found.verdict), Some(Verdict::Problem));
    }

    #[test]
    fn where_no_server_is_nothing_is_said_of_the_way() {
        let gone = ClientError::Unreachable { address: "x".into(), detail: "refused".into() };
        assert_eq!(finding(&Way::Refused(gone)), None);
        let odd = finding(&Way::Refused(ClientError::Answer("HTTP 400".into())));
        assert_eq!(odd.map(|found| found.verdict), Some(Verdict::Problem));
    }
}
