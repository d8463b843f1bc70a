//! Several servers of one cluster: which one is asked, and when the next one may be.
//!
//! A request begins at the server that answered last and goes round, once. What could not be connected, or was refused because
//! that server stops, has done nothing: the next one is asked. What was sent and not answered may have been done: the next one is
//! asked only if the request may be repeated ([`Repeat::Safe`]), which reads may, and whatever carries an id, a key or a number
//! by which the server knows it again.

use super::http::ClientError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether a request whose answer was lost may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It does the same once or twice.
    Safe,
    /// It does not, or that is not known.
    Once,
}

/// Why one server gave no answer that counts.
#[derive(Debug)]
pub(super) enum Missed {
    /// Nothing was done there.
    NotTaken(ClientError),
    /// Perhaps it was done.
    Unknown(ClientError),
    /// An answer, though not the wanted one.
    Answered(ClientError),
}

/// Base addresses, `http://host:port`, and the one that answered last. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    bases: Arc<[String]>,
    last: Arc<AtomicUsize>,
}

impl Servers {
    /// At least one address: `http://host:port` or `host:port`.
    pub(super) fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Result<Self, ClientError> {
        let bases: Vec<String> = addresses.into_iter().map(base).collect::<Result<_, _>>()?;
        if bases.is_empty() {
            return Err(ClientError::Address(String::new()));
        }
        Ok(Self { bases: bases.into(), last: Arc::default() })
    }

    pub(super) fn all(&self) -> &[String] {
        &self.bases
    }

    pub(super) fn are_several(&self) -> bool {
        self.bases.len() > 1
    }

    /// The one that answered last.
    pub(super) fn here(&self) -> &str {
        &self.bases[self.last.load(Ordering::Relaxed) % self.bases.len()]
    }

    /// All of them once, beginning there.
    pub(super) fn round(&self, repeat: Repeat) -> Round<'_> {
        Round { servers: self, first: self.last.load(Ordering::Relaxed), asked: 0, repeat, missed: None }
    }
}

/// One request on its way round.
#[derive(Debug)]
pub(super) struct Round<'a> {
    servers: &'a Servers,
    first: usize,
    asked: usize,
    repeat: Repeat,
    missed: Option<ClientError>,
}

impl<'a> Round<'a> {
    /// Whom to ask now; none: all were asked.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        let bases = &self.servers.bases;
        let next = (self.asked < bases.len()).then(|| bases[(self.first + self.asked) % bases.len()].as_str());
        self.asked += 1;
        next
    }

    /// The last one asked has answered: it is the first to be asked from now on.
    pub(super) fn answered(&self) {
        self.servers.last.store((self.first + self.asked - 1) % self.servers.bases.len(), Ordering::Relaxed);
    }

    /// The last one asked did not. An error: no other may be asked.
    pub(super) fn missed(&mut self, missed: Missed) -> Result<(), ClientError> {
        let may_go_on = match &missed {
            Missed::NotTaken(_) => true,
            Missed::Unknown(_) => self.repeat == Repeat::Safe,
            Missed::Answered(_) => false,
        };
        let (Missed::NotTaken(e) | Missed::Unknown(e) | Missed::Answered(e)) = missed;
        if !may_go_on {
            return Err(e);
        }
        // What a server said is worth more than that another one was silent.
        if !matches!(self.missed, Some(ClientError::Problem(_))) || matches!(e, ClientError::Problem(_)) {
            self.missed = Some(e);
        }
        Ok(())
    }

    /// Nobody answered.
    pub(super) fn over(self) -> ClientError {
        match self.missed {
            Some(ClientError::Unreachable { detail, .. }) => {
                ClientError::Unreachable { address: self.servers.bases.join(", "), detail }
            }
            Some(other) => other,
            None => ClientError::Address(String::new()),
        }
    }
}

/// `http://host:port`, however it was written.
fn base(address: &str) -> Result<String, ClientError> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    let authority = rest.trim_end_matches('/');
    let parsed: Result<hyper::http::uri::Authority, _> = authority.parse();
    if scheme != "http" || parsed.is_err() {
        return Err(ClientError::Address(address.to_owned()));
    }
    Ok(format!("http://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{Code, Problem};

    fn servers() -> Servers {
        Servers::new(["a:1", "http://b:1/", "c:1"]).unwrap()
    }

    fn silent() -> ClientError {
        ClientError::Unreachable { address: "x".into(), detail: "refused".into() }
    }

    #[test]
    fn a_request_goes_round_once_and_the_next_one_begins_where_it_was_answered() {
        let servers = servers();
        let mut round = servers.round(Repeat::Once);
        assert_eq!(round.next(), Some("http://a:1"));
        round.missed(Missed::NotTaken(silent())).unwrap();
        assert_eq!(round.next(), Some("http://b:1"));
        round.answered();
        assert_eq!(servers.here(), "http://b:1");
        let mut round = servers.round(Repeat::Once);
        let asked: Vec<_> = std::iter::from_fn(|| round.next()).collect();
        assert_eq!(asked, ["http://b:1", "http://c:1", "http://a:1"]);
    }

    #[test]
    fn a_lost_answer_is_asked_for_again_only_if_the_request_may_be_repeated() {
        let servers = servers();
        for (repeat, goes_on) in [(Repeat::Safe, true), (Repeat::Once, false)] {
            let mut round = servers.round(repeat);
            round.next();
            assert_eq!(round.missed(Missed::Unknown(silent())).is_ok(), goes_on, "{repeat:?}");
            assert!(servers.round(repeat).missed(Missed::NotTaken(silent())).is_ok(), "{repeat:?}");
            assert!(servers.round(repeat).missed(Missed::Answered(silent())).is_err(), "{repeat:?}");
        }
    }

    #[test]
    fn when_nobody_answers_all_are_named_and_a_word_of_one_counts_more_than_silence() {
        let servers = servers();
        let mut round = servers.round(Repeat::Safe);
        round.missed(Missed::NotTaken(silent())).unwrap();
        assert!(round.over().to_string().contains("http://a:1, http://b:1, http://c:1"));
        let mut round = servers.round(Repeat::Safe);
        let said = ClientError::Problem(Box::new(Problem::new(Code::Draining, "it stops")));
        round.missed(Missed::NotTaken(said)).unwrap();
        round.missed(Missed::NotTaken(silent())).unwrap();
        assert_eq!(round.over().code(), Some("draining"));
    }

    #[test]
    fn an_address_that_is_none_is_refused_among_others() {
        assert!(matches!(Servers::new(["a:1", "ftp://b"]), Err(ClientError::Address(a)) if a == "ftp://b"));
        assert!(Servers::new([]).is_err());
    }
}
