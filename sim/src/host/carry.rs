//! What an agent wants, carried out.

use crate::net::Up;
use crate::queue::Owner;
use crate::server::routes;
use crate::world::World;
use outlive_api::report::WireResult;
use outlive_api::session::ServerMessage;
use outlive_core::invariants;
use outlive_worker::agent::{Call, Effect, GuardEvent, Input, Stop};
use outlive_worker::config::AgentExit;

/// Whether an input says that something must be given up: `lost`, a fenced answer, a newer lease, a newer incarnation, a stop.
pub(super) fn tells(input: &Input) -> bool {
    match input {
        Input::Server { message, .. } => match message {
            ServerMessage::Lost { .. } | ServerMessage::Leases { .. } | ServerMessage::Close { .. } => true,
            ServerMessage::Results { results, .. } => results.iter().any(|r| *r != WireResult::Ok),
            _ => false,
        },
        Input::Replaced | Input::Shutdown(_) | Input::Guard { event: GuardEvent::Stopped, .. } => true,
        _ => false,
    }
}

impl World {
    pub(super) fn carry_out(&mut self, host: usize, effect: Effect) {
        let start = self.hosts[host].start;
        match effect {
            Effect::Connect { conn, address, within } => self.connect(host, conn, &address, within),
            Effect::Close(conn) => {
                self.hosts[host].connecting.remove(&conn);
                if let Some(link) = self.hosts[host].links.remove(&conn) {
                    self.agent_closes(link);
                }
            }
            Effect::Send { conn, message } => {
                if let Some(&link) = self.hosts[host].links.get(&conn) {
                    self.up(link, Up::Message(Box::new(message)));
                }
            }
            Effect::Spawn(lease) => self.spawn(host, &lease),
            Effect::Stop(lease, how) => {
                let process = self.hosts[host].processes.get(&lease);
                let asked = process.is_none_or(super::process::Process::asked_to_end);
                if how == Stop::Kill {
                    let told = self.hosts[host].told || asked;
                    self.check(invariants::own_kill(lease, told));
                    let soon = self.chance.between(0, 4);
                    let at = Owner::World;
                    self.after(soon, at, move |w| w.kill_process(host, lease, Some(start)));
                } else {
                    self.term_process(host, lease);
                }
            }
            Effect::Tell(..) | Effect::Window(..) => {}
            Effect::Guard(command) => self.guard_hears(host, command),
            Effect::Store(record) => {
                let (lease, disk) = (record.lease, self.chance.between(0, 3));
                self.after(disk, Owner::Agent(host, start), move |w| {
                    w.hosts[host].outbox.insert(lease, *record);
                    w.agent(host, Input::Stored(lease));
                });
            }
            Effect::Forget(lease) => {
                self.hosts[host].outbox.remove(&lease);
            }
            Effect::Call(Call::Drain) => {
                self.hosts[host].leaving = true;
                if let Some(holder) = self.hosts[host].holder {
                    self.request(move |w| routes::drain(w, holder, true));
                }
            }
            Effect::Online(online) => {
                self.hosts[host].online = online;
                self.hosts[host].online_since = online.then_some(self.now);
            }
            Effect::Exit(exit) => {
                self.log(format_args!("h{host} agent exits: {exit:?}"));
                if let (AgentExit::Left, Some(holder)) = (exit, self.hosts[host].holder) {
                    self.request(move |w| routes::leave(w, holder));
                }
                self.agent_is_gone(host);
            }
        }
    }
}
