//! The disk of the store: how much is free there, and whether new runs are admitted (`outlive_core::room`).

use crate::app::App;
use crate::reply::Fault;
use crate::start::{Config, StoreLocation};
use outlive_api::ops;
use outlive_api::problem::Code;
use outlive_core::room::Room;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The folder of the store and the last look at it; none for a store without a file.
pub(crate) struct Disk(Option<(PathBuf, Mutex<Room>)>);

impl Disk {
    pub(crate) fn of(config: &Config) -> Self {
        let StoreLocation::Sqlite(path) = &config.store else { return Self(None) };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| ".".into(), PathBuf::from);
        Self(Some((folder, Mutex::new(Room::unknown(config.low_disk)))))
    }

    /// Looks at the disk again. What cannot be read changes nothing.
    pub(crate) fn look(&self) -> Result<Option<Room>, String> {
        let Some((folder, room)) = &self.0 else { return Ok(None) };
        let seen = rustix::fs::statvfs(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *room;
        *room = before.look(seen.f_bavail.saturating_mul(seen.f_frsize));
        if room.admits != before.admits {
            let (free, folder) = (room.free, folder.display());
            tracing::warn!(admits = room.admits, free, mark = room.mark, %folder, "room for new runs has changed");
        }
        Ok(Some(*room))
    }

    /// Why nothing new is admitted now; none: there is room.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        let (folder, room) = self.0.as_ref()?;
        let room = *room.lock().unwrap_or_else(PoisonError::into_inner);
        if room.admits {
            return None;
        }
        let detail = format!(
            "the disk of {} has {} free, below the mark of {}: no new runs until there are {}. What runs goes on and is \
             reported. Make room, or lower --low-disk",
            folder.display(),
            size(room.free),
            size(room.mark),
            size(room.reopen())
        );
        Some(Fault::new(Code::StoreFull, detail))
    }

    /// As `GET /v1/server` shows it.
    pub(crate) fn view(&self) -> Option<ops::Disk> {
        let (folder, room) = self.0.as_ref()?;
        let room = *room.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ops::Disk {
            folder: folder.display().to_string(),
            free_bytes: (room.free < u64::MAX).then_some(room.free),
            low_disk_bytes: room.mark,
            admits_new_runs: room.admits,
        })
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

impl App {
    /// Looks at the disk and sets the gauges.
    pub(crate) fn look_at_disk(&self) -> Result<(), outlive_store::StoreError> {
        let room = self.disk.look().map_err(outlive_store::StoreError::Unavailable)?;
        if let Some(room) = room {
            #[expect(clippy::cast_precision_loss, reason = "free space in doubles is as exact as anybody needs")]
            {
                metrics::gauge!("outlive_store_free_bytes").set(room.free as f64);
                metrics::gauge!("outlive_store_low_disk_bytes").set(room.mark as f64);
            }
            metrics::gauge!("outlive_store_admits_new_runs").set(f64::from(u8::from(room.admits)));
        }
        Ok(())
    }
}
