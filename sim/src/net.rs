//! The network: connections that keep their order, with latency, cuts and silence.
//!
//! A connection is a pair of ordered streams. A *cut* is seen by both ends (EOF or RST); *silence* holds back what is sent one
//! way or both until it is over, as retransmissions do, and nobody is told.

use crate::queue::Owner;
use crate::server::session;
use crate::world::World;
use outlive_api::session::{ServerMessage, WorkerMessage};
use outlive_core::Holder;
use outlive_core::engine::ConnId;
use outlive_worker::agent::{Conn, Input};

/// A connection between an agent process and a server process.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub host: usize,
    pub start: u32,
    pub replica: usize,
    pub boot: u32,
    pub conn: Conn,
    /// When the last thing sent arrives, so that nothing overtakes it.
    up_at: u64,
    down_at: u64,
    /// Ends that have not closed it.
    pub agent_end: bool,
    pub server_end: bool,
    /// Something between them dropped it.
    pub dropped: bool,
}

/// All connections, ever.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub links: Vec<Link>,
}

/// From agent to server.
pub(crate) enum Up {
    Open(Holder),
    Message(Box<WorkerMessage>),
    End,
}

/// From server to agent.
pub(crate) enum Down {
    Accepted,
    /// Not now.
    Refused,
    /// A newer incarnation has the name, or this one said goodbye.
    Replaced,
    Message(Box<ServerMessage>),
    End,
}

pub(crate) const fn conn_id(link: usize) -> ConnId {
    ConnId(link as u64 + 1)
}

impl World {
    /// A few milliseconds, sometimes many.
    pub(crate) fn latency(&mut self) -> u64 {
        if self.chance.chance(3) { self.chance.between(5, 60) } else { self.chance.between(0, 3) }
    }

    pub(crate) fn link(&mut self, host: usize, conn: Conn, replica: usize) -> usize {
        let start = self.hosts[host].start;
        let boot = self.replica(replica).boot;
        let (agent_end, server_end, dropped) = (true, true, false);
        let link = Link { host, start, replica, boot, conn, up_at: 0, down_at: 0, agent_end, server_end, dropped };
        self.net.links.push(link);
        let id = self.net.links.len() - 1;
        self.hosts[host].links.insert(conn, id);
        id
    }

    pub(crate) fn up(&mut self, id: usize, what: Up) {
        let latency = self.latency();
        let link = &self.net.links[id];
        let (host, replica, owner) = (link.host, link.replica, Owner::Server(link.replica, link.boot));
        let Some(open) = self.hosts[host].way.up_at(self.now) else { return };
        let open = open.max(self.ways[replica].up_until);
        let at = (open + latency).max(link.up_at);
        self.net.links[id].up_at = at;
        self.at(at, owner, move |w| session::arrived(w, id, what));
    }

    pub(crate) fn down(&mut self, id: usize, what: Down) {
        if let Down::Message(message) = &what
            && let ServerMessage::Leases { leases, .. } = &**message
        {
            leases.iter().for_each(|lease| self.truth.sent(lease.lease(), id));
        }
        let latency = self.latency();
        let link = &self.net.links[id];
        let (host, start, replica) = (link.host, link.start, link.replica);
        let Some(open) = self.hosts[host].way.down_at(self.now) else { return };
        let open = open.max(self.ways[replica].down_until);
        let at = (open + latency).max(link.down_at);
        self.net.links[id].down_at = at;
        self.at(at, Owner::Agent(host, start), move |w| w.reaches_agent(id, what));
    }

    fn reaches_agent(&mut self, id: usize, what: Down) {
        let Link { host, conn, agent_end, .. } = self.net.links[id].clone();
        if !agent_end {
            return;
        }
        match what {
            Down::Accepted => {
                let (heartbeat, window) = self.hosts[host].registered;
                self.hosts[host].connecting.remove(&conn);
                self.agent(host, Input::Connected { conn, heartbeat, window });
            }
            Down::Message(message) => {
                if let ServerMessage::Leases { leases, .. } = &*message {
                    leases.iter().for_each(|lease| self.truth.arrived(lease.lease()));
                }
                self.agent(host, Input::Server { conn, message: *message });
            }
            Down::Replaced => self.agent(host, Input::Replaced),
            Down::Refused | Down::End => {
                self.net.links[id].agent_end = false;
                self.hosts[host].connecting.remove(&conn);
                self.agent(host, Input::Disconnected { conn });
            }
        }
    }

    /// The agent closes its end, or its process is gone.
    pub(crate) fn agent_closes(&mut self, id: usize) {
        if std::mem::take(&mut self.net.links[id].agent_end) {
            self.up(id, Up::End);
        }
    }

    /// The server closes its end, or its process is gone.
    pub(crate) fn server_closes(&mut self, id: usize) {
        if std::mem::take(&mut self.net.links[id].server_end) {
            self.down(id, Down::End);
        }
    }

    /// Something between them drops the connection, and both see it.
    pub(crate) fn cut(&mut self, id: usize) {
        if self.net.links[id].agent_end && self.net.links[id].server_end {
            self.net.links[id].dropped = true;
            self.up(id, Up::End);
            self.down(id, Down::End);
        }
    }

    /// A proxy drops the connection: the server sees it, and the agent after `told` ms.
    pub(crate) fn proxy_cuts(&mut self, id: usize, told: u64) {
        self.net.links[id].dropped = true;
        self.up(id, Up::End);
        self.after(told, Owner::World, move |w| w.down(id, Down::End));
    }

    /// Connections of a host that both ends believe in.
    pub(crate) fn open_links(&self, host: usize) -> Vec<usize> {
        let open = |l: &Link| l.host == host && self.is_open(l);
        self.net.links.iter().enumerate().filter(|(_, l)| open(l)).map(|(id, _)| id).collect()
    }

    /// Whether both ends believe in it.
    pub(crate) fn is_open(&self, link: &Link) -> bool {
        let there = self.replica(link.replica).boot == link.boot;
        link.agent_end && link.server_end && !link.dropped && there
    }
}

/// A host's way to the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// Nothing gets through before this.
    pub up_until: u64,
    pub down_until: u64,
    /// Never again: the host lost its power.
    pub gone: bool,
}

impl Way {
    /// Whether something is held back, one way or both.
    pub(crate) const fn is_silent(self, now: u64) -> bool {
        self.up_until > now || self.down_until > now
    }

    fn up_at(self, now: u64) -> Option<u64> {
        (!self.gone).then_some(self.up_until.max(now))
    }

    fn down_at(self, now: u64) -> Option<u64> {
        (!self.gone).then_some(self.down_until.max(now))
    }
}
