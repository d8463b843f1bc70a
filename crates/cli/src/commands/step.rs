//! `outlive step`: what a command says about itself from inside a run, in JSON lines over the agent's socket.
//!
//! Scripts call it often, so it starts no runtime: one line up, one line down.

use super::Done;
use crate::config::{self, Attempt};
use crate::exit::{Exit, Failure};
use crate::render::print;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::Subcommand;
use outlive_core::{Json, Millis};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

const EXAMPLES: &str = "Examples, inside a run:
  outlive step progress 0.4 --note 'page 4 of 10'
  outlive step checkpoint '{\"page\": 4}'          the next attempt finds it in $OUTLIVE_CHECKPOINT_FILE
  ./report | outlive step output --channel report
  outlive step release --delay 10m               hand the run back, go on later
  outlive step release --hold --note 'approve?'  … when somebody says: outlive runs release RUN --data '{\"ok\":true}'
  outlive step show                              what the last attempt saved, what the release brought
  outlive step signal approve --timeout 10m      wait for: outlive runs signal RUN --name approve --data JSON
";

/// Say something about the run that this command is: progress, a checkpoint, output
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true, subcommand_required = true,
          after_help = "Exit code 5: this attempt was replaced by another; stop.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How far it is
    Progress {
        /// 0 to 1
        #[arg(value_parser = fraction)]
        fraction: Option<f64>,
        /// For people
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// State that the next attempt starts from, as JSON (at most 64 KiB); stored when this returns
    Checkpoint {
        /// JSON; - reads it from standard input
        data: String,
    },
    /// Write to a named stream of the run's output
    Output {
        /// The stream's name
        #[arg(long, value_name = "NAME", default_value = "notes")]
        channel: String,
        /// What to write; default: standard input
        text: Option<String>,
    },
    /// Print what this attempt starts from, as JSON: checkpoint, data of the release, attempt
    Show,
    /// Print the data of the next signal; each signal is taken once
    Signal {
        /// Only signals of this name; without it any, printed with their names
        name: Option<String>,
        /// Give up after this long (exit code 7)
        #[arg(long, value_name = "TIME")]
        timeout: Option<Millis>,
    },
    /// Hand the run back without cost; the checkpoint stays
    Release {
        /// Queue it again after this long
        #[arg(long, value_name = "TIME", conflicts_with = "hold")]
        delay: Option<Millis>,
        /// Hold it until somebody releases it
        #[arg(long)]
        hold: bool,
        /// What it waits for, for people
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

fn fraction(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "write a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("write a number from 0 to 1".to_owned()) }
}

pub(crate) fn run(args: Args) -> Done {
    let attempt = Attempt::of_this_process()?;
    let mut channel = Channel::open(attempt)?;
    match args.command {
        Command::Progress { fraction, note } => {
            if fraction.is_none() && note.is_none() {
                return Err(Failure::usage("say how far it is, or --note TEXT, or both"));
            }
            channel.call("progress", &json!({"fraction": fraction, "note": note}), None)
        }
        Command::Checkpoint { data } => {
            let data = if data == "-" { read_all()? } else { data };
            let data = Json::parse(data).map_err(|e| Failure::usage(format!("the checkpoint is not JSON: {e}")))?;
            channel.call("checkpoint", &json!({}), Some(&data))
        }
        Command::Output { channel: name, text: Some(text) } => channel.output(&name, text.as_bytes()),
        Command::Output { channel: name, text: None } => {
            for line in std::io::stdin().lock().split(b'\n') {
                channel.output(&name, &line?)?;
            }
            Ok(Exit::Ok)
        }
        Command::Show => show(&channel.attempt),
        Command::Signal { name, timeout } => channel.signal(name.as_deref(), timeout),
        Command::Release { delay, hold, note } => {
            let hold = hold.then_some(true);
            channel.call("release", &json!({"delay": delay, "hold": hold, "note": note}), None)
        }
    }
}

/// What this attempt starts from.
fn show(attempt: &Attempt) -> Done {
    let file = |name: &str| -> Result<String, Failure> {
        let text = config::variable(name).and_then(|path| std::fs::read_to_string(path).ok());
        Ok(text.map(Json::parse).transpose()?.map_or_else(|| "null".to_owned(), |json| json.text().to_owned()))
    };
    let number = |name: &str| config::variable(name).and_then(|v| v.parse::<u64>().ok()).unwrap_or_default();
    let recovered = config::variable("OUTLIVE_RECOVERED").is_some_and(|v| v == "true");
    print(&format!(
        "{{\"run_id\":\"{}\",\"epoch\":{},\"attempt\":{},\"recovered\":{recovered},\"checkpoint\":{},\"resume_data\":{}}}",
        attempt.run_id,
        attempt.epoch,
        number("OUTLIVE_ATTEMPT"),
        file("OUTLIVE_CHECKPOINT_FILE")?,
        file("OUTLIVE_RESUME_FILE")?
    ))?;
    Ok(Exit::Ok)
}

fn read_all() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

struct Channel {
    attempt: Attempt,
    stream: BufReader<UnixStream>,
    next: u64,
}

impl Channel {
    fn open(attempt: Attempt) -> Result<Self, Failure> {
        let stream = UnixStream::connect(&attempt.socket).map_err(|e| {
            Failure::new(Exit::Unreachable, format!("the agent does not answer at {}: {e}", attempt.socket.display()))
                .hint("its worker is gone; this attempt is being replaced. Stop")
        })?;
        Ok(Self { attempt, stream: BufReader::new(stream), next: 1 })
    }

    /// A line, as the bytes that it is.
    fn output(&mut self, channel: &str, line: &[u8]) -> Done {
        let line = [line, b"\n"].concat();
        let fields = match std::str::from_utf8(&line) {
            Ok(text) => json!({"channel": channel, "text": text}),
            Err(_) => json!({"channel": channel, "base64": BASE64_STANDARD.encode(&line)}),
        };
        self.call("output", &fields, None)
    }

    fn signal(&mut self, name: Option<&str>, timeout: Option<Millis>) -> Done {
        #[derive(Deserialize)]
        struct Taken {
            name: String,
            data: Json,
        }
        let patience = timeout.map(Millis::duration).filter(|t| !t.is_zero());
        self.stream.get_ref().set_read_timeout(patience)?;
        let line = match self.ask("signal", &json!({"name": name}), None) {
            Ok(line) => line,
            Err(failure) if failure.exit == Exit::WaitTimedOut => {
                let what = name.map_or_else(|| "signal".to_owned(), |n| format!("signal \"{n}\""));
                let waited = timeout.unwrap_or_default();
                return Err(Failure::new(Exit::WaitTimedOut, format!("no {what} came within {waited}")));
            }
            Err(failure) => return Err(failure),
        };
        read_answer(&serde_json::from_str(&line)?)?;
        let taken: Taken = serde_json::from_str(&line)?;
        let data = taken.data.text();
        print(&if name.is_some() {
            data.to_owned()
        } else {
            format!("{{\"name\":{},\"data\":{data}}}", json!(taken.name))
        })?;
        Ok(Exit::Ok)
    }

    /// One statement and its answer.
    fn call(&mut self, op: &str, fields: &Value, data: Option<&Json>) -> Done {
        read_answer(&serde_json::from_str(&self.ask(op, fields, data)?)?)
    }

    /// One statement; the line that answers it.
    fn ask(&mut self, op: &str, fields: &Value, data: Option<&Json>) -> Result<String, Failure> {
        let reference = self.next;
        self.next += 1;
        let mut line = Map::new();
        line.insert("ref".into(), reference.into());
        line.insert("op".into(), op.into());
        line.insert("run_id".into(), self.attempt.run_id.clone().into());
        line.insert("epoch".into(), self.attempt.epoch.into());
        line.extend(
            fields.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())),
        );
        let mut text = serde_json::to_string(&line)?;
        if let Some(data) = data {
            // Verbatim, so that numbers and the order of keys survive.
            text.truncate(text.len() - 1);
            text += &[",\"data\":", &data.text().replace('\n', " "), "}"].concat();
        }
        text.push('\n');
        self.stream.get_mut().write_all(text.as_bytes())?;
        self.answer(reference)
    }

    fn answer(&mut self, reference: u64) -> Result<String, Failure> {
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return Err(Failure::new(Exit::Unreachable, "the agent went away before it answered")),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Failure::new(Exit::WaitTimedOut, "no answer came in time"));
                }
                Err(e) => return Err(e.into()),
            }
            let answer: Value = serde_json::from_str(&line)?;
            if answer["ref"] == reference {
                return Ok(line);
            }
        }
    }
}

fn read_answer(answer: &Value) -> Done {
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    match answer["status"].as_str() {
        Some("ok") => Ok(Exit::Ok),
        Some("fenced") => Err(Failure::new(
            Exit::Conflict,
            format!("this attempt is over: the run is {} at epoch {}", text("state"), answer["epoch"]),
        )
        .hint("another attempt has it. Stop and report nothing more")),
        Some("terminal") => Err(Failure::new(Exit::Conflict, format!("the run has ended: {}", text("state")))),
        Some("invalid") => Err(Failure::usage(text("detail"))),
        other => Err(Failure::failed(format!("the agent answered {}", other.unwrap_or("nothing that is known")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_decides_the_exit_code() {
        let exit = |text: &str| match read_answer(&serde_json::from_str(text).unwrap()) {
            Ok(exit) => exit,
            Err(failure) => failure.exit,
        };
        assert_eq!(exit(r#"{"ref":1,"status":"ok"}"#), Exit::Ok);
        assert_eq!(exit(r#"{"ref":1,"status":"fenced","state":"running","epoch":3}"#), Exit::Conflict);
        assert_eq!(exit(r#"{"ref":1,"status":"invalid","detail":"data is missing"}"#), Exit::Usage);
        assert_eq!(exit(r#"{"ref":1,"status":"new"}"#), Exit::Failed);
    }

    #[test]
    fn a_checkpoint_travels_verbatim_and_other_messages_are_skipped() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let attempt = Attempt { socket: "x".into(), run_id: "r".into(), epoch: 2 };
        let mut channel = Channel { attempt, stream: BufReader::new(ours), next: 1 };
        let mut theirs = BufReader::new(theirs);
        theirs.get_mut().write_all(b"{\"type\":\"drain\"}\n{\"ref\":1,\"status\":\"ok\"}\n").unwrap();
        let data = Json::parse(r#"{"z":1.50,"a":[1]}"#.into()).unwrap();
        assert_eq!(channel.call("checkpoint", &json!({}), Some(&data)), Ok(Exit::Ok));
        let mut line = String::new();
        theirs.read_line(&mut line).unwrap();
        assert!(line.ends_with(",\"data\":{\"z\":1.50,\"a\":[1]}}\n") && line.contains("\"epoch\":2"), "{line}");
    }
}
