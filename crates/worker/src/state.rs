//! The state folder: what makes an agent the same worker after a restart.
//!
//! ```text
//!   lock           held while an agent runs
//!   identity.json  a name, the secret that proves that a replay comes from here, the mark of this folder's processes
//!   outbox         see crate::outbox
//!   attempts/<n>/  private folders of attempts: socket, checkpoint, resume data, working directory
//! ```

use crate::config::AgentError;
use crate::reach::{self, cgroup};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// A Unix socket's path has at most 107 bytes; what is left for the folder of attempts after `/<n>/socket`.
const LONGEST_SOCKET_BASE: usize = 79;

/// Who this worker is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Its stable name.
    pub name: String,
    /// A secret that the server remembers with the name.
    pub outbox_key: String,
    /// The mark of all processes that agents of this folder start.
    pub folder: String,
}

/// A locked state folder.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Who.
    pub identity: Identity,
    /// The mark of this start.
    pub instance: [u8; 16],
    /// Whether an earlier process had this folder.
    pub used: bool,
    _lock: File,
}

impl StateDir {
    /// Opens and locks a folder; made, if it is not there.
    ///
    /// # Errors
    /// [`AgentError::StateLocked`] or [`AgentError::State`].
    pub fn open(path: &Path) -> Result<Self, AgentError> {
        let failed = |source| AgentError::State { path: path.to_owned(), source };
        private_folder(path).map_err(failed)?;
        let path = &path.canonicalize().map_err(failed)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(AgentError::StateLocked(path.clone())),
            Err(fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
        let file = path.join("identity.json");
        let used = file.exists();
        let identity = Identity::load(&file).map_err(failed)?;
        let instance = random().map_err(failed)?;
        Ok(Self { path: path.clone(), identity, instance, used, _lock: lock })
    }

    /// The prefix of all leases of this start.
    #[must_use]
    pub fn domain_prefix(&self) -> String {
        format!("{}.{}", self.identity.folder, hex(&self.instance[..4]))
    }

    /// A number for everything that only needs to differ from others.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.instance[8..].iter().fold(0, |n, &b| n << 8 | u64::from(b))
    }

    /// The outbox's file.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.path.join("outbox")
    }

    /// Where attempts have their folders: here, or, if the path is too long for a socket, where temporary files go.
    ///
    /// # Errors
    /// [`AgentError::State`] if every such path is too long.
    pub fn attempts(&self) -> Result<PathBuf, AgentError> {
        let here = self.path.join("attempts");
        let elsewhere = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
        let elsewhere = elsewhere.into_iter().map(|p| p.join(format!("outlive-{}", self.identity.folder)));
        std::iter::once(here.clone())
            .chain(elsewhere)
            .find(|p| p.as_os_str().len() <= LONGEST_SOCKET_BASE && p.parent().is_some_and(Path::is_dir))
            .ok_or(AgentError::State { path: here, source: io::ErrorKind::InvalidFilename.into() })
    }

    /// Ends whatever a dead predecessor left: processes that carry this folder's mark, their groups, their folders.
    ///
    /// # Errors
    /// [`AgentError::State`].
    pub fn sweep(&self) -> Result<(), AgentError> {
        reach::kill_prefix(&format!("{}.", self.identity.folder));
        cgroup::sweep(&self.identity.folder);
        let attempts = self.attempts()?;
        let _ = fs::remove_dir_all(&attempts);
        // Made anew, never found: in a folder that others may write to, what is there could be theirs.
        DirBuilder::new().mode(0o700).create(&attempts).map_err(|source| AgentError::State { path: attempts, source })
    }
}

impl Identity {
    fn load(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let identity = Self::new()?;
                let beside = path.with_extension("new");
                fs::write(&beside, serde_json::to_vec(&identity)?)?;
                fs::rename(&beside, path)?;
                Ok(identity)
            }
            Err(e) => Err(e),
        }
    }

    fn new() -> io::Result<Self> {
        let random: [u8; 32] = random()?;
        let name = format!("{}-{}", host_name(), hex(&random[..2]));
        Ok(Self { name, outbox_key: hex(&random[2..18]), folder: hex(&random[18..22]) })
    }
}

/// The machine's name.
#[must_use]
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "worker".to_owned() } else { name.to_owned() }
}

/// Makes a folder that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_name_and_admits_one_agent_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateDir::open(&path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(AgentError::StateLocked(_))));
        let (name, key, instance) = (first.identity.name.clone(), first.identity.outbox_key.clone(), first.instance);
        drop(first);
        let second = StateDir::open(&path).unwrap();
        assert_eq!((second.identity.name.clone(), second.identity.outbox_key.clone()), (name, key));
        assert_ne!(second.instance, instance);
    }

    #[test]
    fn a_long_path_moves_the_sockets_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(&folder.path().join("x".repeat(100))).unwrap();
        let attempts = state.attempts().unwrap();
        assert!(attempts.as_os_str().len() <= LONGEST_SOCKET_BASE, "{}", attempts.display());
    }
}
