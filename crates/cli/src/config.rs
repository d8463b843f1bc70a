//! Where a setting comes from: flag, else environment (`OUTLIVE_*`), else `outlive.toml`, else default.
//!
//! One mechanism serves every flag of every command. Before the command line is read, the tree of commands is walked once
//! ([`equip`]): each flag gets its variable, and the file's value as its default. So a flag has the same name everywhere:
//!
//! ```text
//!   --state-dir DIR   of `worker`   OUTLIVE_STATE_DIR          state_dir = "…"        (shared settings: a short name)
//!   --queue NAME      of `run`      OUTLIVE_RUN_QUEUE          [run] queue = "…"      (all others: with their command)
//! ```
//!
//! This is the only file that reads the environment.

use crate::exit::Failure;
use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use outlive_api::ops::Setting;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The file that is read if it is there and no other is named.
const DEFAULT_FILE: &str = "outlive.toml";
/// `--config -`: no file at all.
const NO_FILE: &str = "-";
const PREFIX: &str = "OUTLIVE_";

/// What `outlive.toml` says: every value under the name of its variable without the prefix, in small letters.
#[derive(Debug, Default)]
pub(crate) struct File {
    path: Option<PathBuf>,
    values: BTreeMap<String, Vec<String>>,
}

impl File {
    /// Finds and reads the file for this command line.
    pub(crate) fn load(args: &[OsString]) -> Result<Self, Failure> {
        let named = named_file(args).or_else(|| std::env::var_os("OUTLIVE_CONFIG").map(PathBuf::from));
        match named {
            Some(path) if path.as_os_str() == NO_FILE => Ok(Self::default()),
            Some(path) => Self::read(&path),
            None if Path::new(DEFAULT_FILE).is_file() => Self::read(Path::new(DEFAULT_FILE)),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::usage(format!("{} cannot be read: {e}", path.display())))?;
        Self::parse(&text, path)
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let table: toml::Table =
            text.parse().map_err(|e| Failure::usage(format!("{} is not valid TOML: {e}", path.display())))?;
        let mut file = Self { path: Some(path.to_owned()), values: BTreeMap::new() };
        file.flatten("", table);
        Ok(file)
    }

    fn flatten(&mut self, prefix: &str, table: toml::Table) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.replace('-', "_"));
            match value {
                toml::Value::Table(inner) => self.flatten(&format!("{name}_"), inner),
                toml::Value::Array(items) => drop(self.values.insert(name, items.iter().map(scalar).collect())),
                other => drop(self.values.insert(name, vec![scalar(&other)])),
            }
        }
    }

    fn value(&self, variable: &str) -> Option<&Vec<String>> {
        self.values.get(&variable.strip_prefix(PREFIX)?.to_ascii_lowercase())
    }

    /// Refuses keys that no flag knows: a typo must not be silent.
    fn check(&self, command: &Command) -> Result<(), Failure> {
        let mut known = BTreeSet::new();
        each_flag(command, &mut |_, arg| {
            known.extend(variable_of(arg).and_then(|v| v.strip_prefix(PREFIX).map(str::to_ascii_lowercase)));
        });
        let Some(unknown) = self.values.keys().find(|key| !known.contains(*key)) else { return Ok(()) };
        let path = self.path.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        Err(Failure::usage(format!("{}: \"{unknown}\" is not a setting", path.display()))
            .hint("all settings with their names: outlive config explain --all"))
    }
}

fn scalar(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(n) => n.to_string(),
        toml::Value::Float(n) => n.to_string(),
        toml::Value::Boolean(b) => b.to_string(),
        toml::Value::Datetime(t) => t.to_string(),
        toml::Value::Array(_) | toml::Value::Table(_) => String::new(),
    }
}

/// `--config X` or `--config=X`, before a `--`.
fn named_file(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().skip(1).take_while(|a| *a != "--");
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        if text == "--config" {
            return args.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(PathBuf::from(path));
        }
    }
    None
}

/// Gives every flag below `command` its variable and its value from the file.
pub(crate) fn equip(command: Command, file: &File) -> Result<Command, Failure> {
    let equipped = equip_below(command, PREFIX, file);
    file.check(&equipped)?;
    Ok(equipped)
}

fn equip_below(command: Command, prefix: &str, file: &File) -> Command {
    let command = command.mut_args(|arg| equip_flag(arg, prefix, file));
    command.mut_subcommands(|sub| {
        let prefix = format!("{prefix}{}_", constant(sub.get_name()));
        equip_below(sub, &prefix, file)
    })
}

fn equip_flag(mut arg: Arg, prefix: &str, file: &File) -> Arg {
    let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
    if arg.is_hide_set() || matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
        return arg;
    }
    if arg.get_env().is_none() {
        arg = arg.env(format!("{prefix}{}", constant(&long))).hide_env(true);
    }
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        arg = arg.value_parser(BoolishValueParser::new());
    }
    let variable = variable_of(&arg).unwrap_or_default();
    match file.value(&variable) {
        Some(values) => arg.default_values(values.clone()),
        None => arg,
    }
}

fn constant(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn variable_of(arg: &Arg) -> Option<String> {
    arg.get_env().map(|v| v.to_string_lossy().into_owned())
}

fn each_flag(command: &Command, visit: &mut dyn FnMut(&Command, &Arg)) {
    for arg in command.get_arguments() {
        visit(command, arg);
    }
    for sub in command.get_subcommands() {
        each_flag(sub, visit);
    }
}

/// Every setting with its value and origin. `all`: those of one command alone too. `used`: what the command line says.
pub(crate) fn settings(tree: &Command, file: &File, used: Option<&ArgMatches>, all: bool) -> Vec<Setting> {
    let mut found: BTreeMap<String, Setting> = BTreeMap::new();
    each_flag(tree, &mut |command, arg| {
        let Some(variable) = variable_of(arg).filter(|_| all || !arg.is_hide_env_set()) else { return };
        let setting = setting(arg, &variable, file, used);
        let seen = found.entry(variable).or_insert_with(|| setting.clone());
        if seen.value != setting.value {
            // A default that differs between commands.
            seen.value = format!("{}; {}: {}", seen.value, command.get_name(), setting.value);
        }
    });
    found.into_values().collect()
}

/// The settings of the command that is running, as `GET /v1/server` shows them.
pub(crate) fn settings_in_use(tree: &Command, file: &File, used: &ArgMatches) -> Vec<Setting> {
    let running = used.subcommand_name().and_then(|name| tree.find_subcommand(name));
    let flags = tree.get_arguments().chain(running.into_iter().flat_map(Command::get_arguments));
    let mut found = BTreeMap::new();
    for arg in flags {
        if let Some(variable) = variable_of(arg) {
            found.entry(variable.clone()).or_insert_with(|| setting(arg, &variable, file, Some(used)));
        }
    }
    found.into_values().collect()
}

fn setting(arg: &Arg, variable: &str, file: &File, used: Option<&ArgMatches>) -> Setting {
    let name = variable.trim_start_matches(PREFIX).to_ascii_lowercase();
    let (value, origin) = if let Some(value) = used.and_then(|m| given(m, arg.get_id().as_str())) {
        (value, "flag".to_owned())
    } else if let Some(value) = std::env::var_os(variable) {
        (value.to_string_lossy().into_owned(), format!("environment {variable}"))
    } else {
        let defaults = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect::<Vec<_>>();
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let value = if defaults.is_empty() && is_switch { "false".to_owned() } else { defaults.join(",") };
        let from = file.path.as_deref().filter(|_| file.value(variable).is_some());
        (value, from.map_or_else(|| "default".into(), |path| format!("file {}", path.display())))
    };
    Setting { name, value, origin }
}

/// The value of a flag that stands on the command line itself.
fn given(matches: &ArgMatches, id: &str) -> Option<String> {
    let here = matches.try_contains_id(id).is_ok_and(|has| has)
        && matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    if here {
        let raw = matches.get_raw(id)?;
        return Some(raw.map(|v| v.to_string_lossy()).collect::<Vec<_>>().join(","));
    }
    matches.subcommand().and_then(|(_, below)| given(below, id))
}

/// The command line.
pub(crate) fn args() -> Vec<OsString> {
    std::env::args_os().collect()
}

/// This binary, for child processes.
pub(crate) fn this_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::failed(format!("this program's own path is not known: {e}")))
}

/// The directory of the caller.
pub(crate) fn current_dir() -> Option<String> {
    std::env::current_dir().ok().and_then(|d| d.into_os_string().into_string().ok())
}

/// A variable of the caller, for `run --env NAME`.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether colours are unwanted (<https://no-color.org>).
pub(crate) fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}

/// Variables of ours, which must not reach processes that we start with settings of their own.
pub(crate) fn own_variables() -> Vec<OsString> {
    let ours = |name: &OsString| name.to_string_lossy().starts_with(PREFIX) && name != "OUTLIVE_ISOLATION";
    std::env::vars_os().map(|(name, _)| name).filter(ours).collect()
}

/// What an attempt's process knows about itself.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) socket: PathBuf,
    pub(crate) run_id: String,
    pub(crate) epoch: i64,
}

impl Attempt {
    /// From the variables that the agent sets.
    pub(crate) fn of_this_process() -> Result<Self, Failure> {
        let read = |name: &str| {
            variable(name).filter(|v| !v.is_empty()).ok_or_else(|| {
                Failure::usage(format!("{name} is not set: this is not inside a run")).hint(
                    "step is for commands that a worker started: outlive run -- sh -c 'outlive step progress 0.5'",
                )
            })
        };
        let epoch = read("OUTLIVE_EPOCH")?;
        let epoch = epoch.parse().map_err(|_| Failure::usage(format!("OUTLIVE_EPOCH={epoch} is not a number")))?;
        Ok(Self { socket: read("OUTLIVE_SOCKET")?.into(), run_id: read("OUTLIVE_RUN_ID")?, epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("outlive")
            .arg(Arg::new("server").long("server").env("OUTLIVE_TEST_SERVER").default_value("d").global(true))
            .subcommand(
                Command::new("run")
                    .arg(Arg::new("queue").long("queue").default_value("default"))
                    .arg(Arg::new("hold").long("hold").action(ArgAction::SetTrue)),
            )
    }

    fn file(text: &str) -> File {
        File::parse(text, Path::new("outlive.toml")).unwrap()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = file("test_server = \"f\"\n[run]\nqueue = \"from-file\"\nhold = true\n");
        let equipped = equip(command(), &file).unwrap();
        let matches = equipped.clone().get_matches_from(["outlive", "run"]);
        let (_, run) = matches.subcommand().unwrap();
        assert_eq!(run.get_one::<String>("queue").unwrap(), "from-file");
        assert!(run.get_flag("hold"));
        let matches = equipped.clone().get_matches_from(["outlive", "run", "--queue", "x"]);
        assert_eq!(matches.subcommand().unwrap().1.get_one::<String>("queue").unwrap(), "x");
        let settings = settings(&equipped, &file, Some(&matches), true);
        let find = |name: &str| settings.iter().find(|s| s.name == name).map(|s| (s.value.as_str(), s.origin.as_str()));
        assert_eq!(find("run_queue"), Some(("x", "flag")));
        assert_eq!(find("test_server"), Some(("f", "file outlive.toml")));
    }

    #[test]
    fn an_environment_variable_wins_over_the_file() {
        let arg = Arg::new("home").long("home").env("HOME").default_value("d");
        let equipped = equip_flag(arg, PREFIX, &File::default());
        let matches = Command::new("x").arg(equipped).get_matches_from(["x"]);
        assert_eq!(matches.get_one::<String>("home").cloned(), variable("HOME"));
    }

    #[test]
    fn an_unknown_key_in_the_file_is_refused() {
        let failure = equip(command(), &file("[run]\nqeue = \"x\"")).unwrap_err();
        assert!(failure.message.contains("\"run_qeue\" is not a setting"), "{failure}");
    }

    #[test]
    fn the_file_is_named_before_the_double_dash_only() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(named_file(&args(&["o", "--config=a.toml", "run"])), Some("a.toml".into()));
        assert_eq!(named_file(&args(&["o", "run", "--", "x", "--config", "b"])), None);
    }
}
