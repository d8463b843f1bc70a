//! The server: made, started, asked, restarted, ended.

use crate::Failure;
use crate::keeper::Keeper;
use crate::programs::{command, folder, give, run, run_with};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The superuser of the server, and the owner of its databases.
pub(crate) const OWNER: &str = "outlive";
/// How often a start is tried: another process may take the free port first.
const STARTS: u32 = 5;
/// Looks at whether it answers, and the time between them: a minute on a slow machine.
const LOOKS: u32 = 1_200;
const LOOK: Duration = Duration::from_millis(50);

/// What is different from PostgreSQL's defaults.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Lines of `postgresql.conf`, as `name = value`.
    pub settings: Vec<String>,
    /// Certificate and key, as PEM: TLS is then *required* on TCP.
    pub tls: Option<(String, String)>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    // First: the server ends before its folder goes.
    keeper: Keeper,
    place: Place,
    port: u16,
}

/// Where it is on disk, and how its owner is let in.
#[derive(Debug)]
struct Place {
    folder: TempDir,
    programs: PathBuf,
    password: String,
    tls: Option<(String, String)>,
}

impl Server {
    /// Makes and starts one. Takes a second or two.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start; with the end of its log.
    pub fn start(options: &Options) -> Result<Self, Failure> {
        let folder_ = tempfile::Builder::new().prefix("outlive-pg-").tempdir();
        let password = uuid::Uuid::new_v4().simple().to_string();
        let place = Place {
            folder: folder_.map_err(|error| format!("no temporary folder: {error}"))?,
            programs: folder()?,
            password,
            tls: options.tls.clone(),
        };
        place.make(options)?;
        let mut last = String::new();
        for _ in 0..STARTS {
            let port = free_port()?;
            let keeper = place.launch(port)?;
            match place.wait_until_it_answers(port, &keeper) {
                Ok(()) => return Ok(Self { keeper, place, port }),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// Where to connect to one of its databases, over TCP. `postgres` is always there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{OWNER}:{}@127.0.0.1:{}/{database}", self.place.password, self.port)
    }

    /// The folder of its socket, for whoever connects without TCP.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.place.folder.path()
    }

    /// The password of its owner.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.place.password
    }

    /// Certificate and key, if it requires TLS.
    pub(crate) fn tls(&self) -> Option<(&str, &str)> {
        self.place.tls.as_ref().map(|(certificate, key)| (certificate.as_str(), key.as_str()))
    }

    /// Its TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The process that all others of it come from.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.keeper.pid()
    }

    /// Runs statements in a database; what `psql` prints of them, one row a line, columns apart by `|`.
    ///
    /// # Errors
    /// What PostgreSQL said.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String, Failure> {
        sql(&self.url(database), statements)
    }

    /// Ends it, reads its own log again to its end, and goes on from there as *another history*, on the same port: what a
    /// standby does that takes over, and a copy that is restored.
    ///
    /// # Errors
    /// It does not start again.
    pub fn begin_another_history(&mut self) -> Result<(), Failure> {
        let before = self.timeline()?;
        self.keeper.end(Signal::INT);
        let settings = self.place.data().join("postgresql.auto.conf");
        let kept = std::fs::read_to_string(&settings).map_err(|error| format!("no settings: {error}"))?;
        // No log but its own is to be had.
        write(&settings, &format!("{kept}restore_command = 'false'\n"))?;
        write(&self.place.data().join("recovery.signal"), "")?;
        self.keeper = self.place.launch(self.port)?;
        self.place.wait_until_it_answers(self.port, &self.keeper)?;
        for _ in 0..LOOKS {
            // It answers while it reads, too.
            if self.sql("postgres", "SELECT pg_is_in_recovery()").is_ok_and(|said| said == "f") {
                let now = self.timeline()?;
                return if now == before { Err(format!("the history is still {now}")) } else { Ok(()) };
            }
            std::thread::sleep(LOOK);
        }
        Err(format!("PostgreSQL does not come out of its recovery: {}", self.place.log()))
    }

    /// The number of the history that it writes.
    fn timeline(&self) -> Result<String, Failure> {
        self.sql("postgres", "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)")
    }

    /// Ends it at once, as a crash would, and starts it again on the same port: `pg_ctl restart -m immediate`.
    ///
    /// # Errors
    /// It does not start again.
    pub fn crash_and_restart(&mut self) -> Result<(), Failure> {
        self.keeper.end(Signal::QUIT);
        self.keeper = self.place.launch(self.port)?;
        self.place.wait_until_it_answers(self.port, &self.keeper)
    }
}

impl Place {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn make(&self, options: &Options) -> Result<(), Failure> {
        give(self.folder.path())?;
        let secret = self.folder.path().join("password");
        write(&secret, &self.password)?;
        let mut initdb = command(&self.programs.join("initdb"))?;
        initdb.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(&secret);
        initdb.args(["--username", OWNER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]);
        run(initdb.args(["--no-sync", "--no-instructions"]))?;
        let folder = self.folder.path().display();
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\nmax_connections = 200\n\
             max_wal_size = 4GB\nlog_destination = stderr\n"
        );
        for setting in &options.settings {
            let _ = writeln!(settings, "{setting}");
        }
        if let Some((certificate, key)) = &options.tls {
            write(&self.data().join("server.crt"), certificate)?;
            write(&self.data().join("server.key"), key)?;
            settings.push_str("ssl = on\n");
            let doors = "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
            write(&self.data().join("pg_hba.conf"), doors)?;
        }
        let file = self.data().join("postgresql.auto.conf");
        write(&file, &settings)
    }

    fn launch(&self, port: u16) -> Result<Keeper, Failure> {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        let log = log.map_err(|error| format!("no log: {error}"))?;
        let mut postgres = command(&self.programs.join("postgres"))?;
        postgres.arg("-D").arg(self.data()).args(["-p", &port.to_string()]);
        postgres.stdout(Stdio::null()).stderr(log);
        Keeper::start(postgres)
    }

    fn wait_until_it_answers(&self, port: u16, keeper: &Keeper) -> Result<(), Failure> {
        let mut ready = Command::new(self.programs.join("pg_isready"));
        ready.args(["--quiet", "--host", &self.folder.path().to_string_lossy(), "--port", &port.to_string()]);
        for _ in 0..LOOKS {
            if ready.status().is_ok_and(|status| status.success()) {
                return Ok(());
            }
            if keeper.has_ended() {
                break;
            }
            std::thread::sleep(LOOK);
        }
        let log = self.log();
        let tail = log.len().saturating_sub(2_000);
        Err(format!("PostgreSQL does not start: {}", log.get(tail..).unwrap_or(&log)))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Runs statements through `psql` in the database that a URL names; what it prints, one row a line, columns apart by `|`.
///
/// # Errors
/// What PostgreSQL said.
pub fn sql(url: &str, statements: &str) -> Result<String, Failure> {
    let mut psql = command(&folder()?.join("psql"))?;
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--dbname", url]);
    let printed = run_with(psql.args(["--file", "-"]), statements)?;
    Ok(printed.trim_end().to_owned())
}

/// A port at which nobody listens. It is none of those that the system gives to connections (32,768 and above by default): what is
/// ended and started again on its port would find a connection there, if only that of a client who tries to reach it.
pub(crate) fn free_port() -> Result<u16, Failure> {
    for _ in 0..200 {
        let chance = uuid::Uuid::new_v4().as_u64_pair().0 % 20_000;
        let port = 10_000 + u16::try_from(chance).unwrap_or_default();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port between 10000 and 30000".to_owned())
}

/// A file that only the server's user reads.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::write(path, text)
        .and_then(|()| std::fs::set_permissions(path, private))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    give(path)
}
