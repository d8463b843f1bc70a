//! A pgbouncer in transaction mode in front of a server: what a session keeps between transactions is gone there.

use crate::Failure;
use crate::keeper::Keeper;
use crate::programs::{command, give};
use crate::server::{OWNER, Server, free_port, write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;

/// Debian's place; others have it in `PATH`.
const DEBIAN: &str = "/usr/sbin/pgbouncer";
const LOOKS: u32 = 600;
const LOOK: Duration = Duration::from_millis(50);

/// A running pgbouncer.
#[derive(Debug)]
pub struct Bouncer {
    // First: it ends before its folder goes.
    _keeper: Keeper,
    _folder: TempDir,
    password: String,
    port: u16,
}

impl Bouncer {
    /// Starts one with `pool_mode = transaction` and this many connections to the server for each database. In front of a server
    /// that requires TLS it requires it, too, with the same certificate.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(server: &Server, connections: u32) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("outlive-bouncer-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        give(folder.path())?;
        let (port, path) = (free_port()?, folder.path().display());
        let users = folder.path().join("users");
        write(&users, &format!("\"{OWNER}\" \"{}\"\n", server.password()))?;
        let mut tls = String::new();
        if let Some((certificate, key)) = server.tls() {
            let files = [folder.path().join("server.crt"), folder.path().join("server.key")];
            write(&files[0], certificate)?;
            write(&files[1], key)?;
            let [certificate, key] = files.map(|file| file.display().to_string());
            tls = format!(
                "server_tls_sslmode = require\nclient_tls_sslmode = require\nclient_tls_cert_file = {certificate}\n\
                 client_tls_key_file = {key}\n"
            );
        }
        let settings = folder.path().join("pgbouncer.ini");
        write(
            &settings,
            &format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir = {path}\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
                 default_pool_size = {connections}\nmax_client_conn = 200\nlogfile = {path}/log\npidfile = {path}/pid\n{tls}",
                server.port(),
                users.display(),
            ),
        )?;
        let program = if Path::new(DEBIAN).is_file() { Path::new(DEBIAN) } else { Path::new("pgbouncer") };
        let mut pgbouncer = command(program)?;
        pgbouncer.arg("--quiet").arg(&settings).stdout(Stdio::null()).stderr(Stdio::null());
        let keeper = Keeper::start(pgbouncer)?;
        for _ in 0..LOOKS {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                let password = server.password().to_owned();
                return Ok(Self { _keeper: keeper, _folder: folder, password, port });
            }
            std::thread::sleep(LOOK);
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        Err(format!("pgbouncer does not start (Debian: `apt-get install pgbouncer`): {log}"))
    }

    /// Its TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where to connect to a database through it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{OWNER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }
}
