//! The private folder of an attempt.

use outlive_api::session::Lease;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Removed when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes it, with the files that the lease brings.
    pub(super) fn make(attempts: &Path, number: u64, lease: &Lease) -> io::Result<Self> {
        let folder = Self(attempts.join(number.to_string()));
        crate::state::private_folder(&folder.work())?;
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700))?;
        if let Some(checkpoint) = &lease.checkpoint {
            fs::write(folder.checkpoint(), checkpoint.text())?;
        }
        if let Some(data) = &lease.resume_data {
            fs::write(folder.resume(), data.text())?;
        }
        Ok(folder)
    }

    /// The socket, for the owner alone.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        let listener = UnixListener::bind(self.socket())?;
        fs::set_permissions(self.socket(), fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// There only if an earlier attempt has saved something.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint.json")
    }

    /// There only if whoever released the run gave something along.
    pub(super) fn resume(&self) -> PathBuf {
        self.0.join("resume.json")
    }

    /// Where the command runs if the run does not say where.
    pub(super) fn work(&self) -> PathBuf {
        self.0.join("work")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        let _ = fs::remove_dir_all(&self.0);
    }
}
