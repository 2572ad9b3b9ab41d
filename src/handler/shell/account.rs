//! The account that a command runs as.

use std::ffi::CString;

use nix::unistd::{Group, User, geteuid};

use super::guardian::Ids;

/// An account of this machine.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// None where the worker is it already.
    pub(super) ids: Option<Ids>,
    pub(super) name: String,
    pub(super) home: String,
}

impl Account {
    /// Looks up `user` or `user:group`; the group is else the user's own, together with its other groups.
    pub(super) fn find(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let found = User::from_name(user).map_err(|e| format!("looking up user {user:?}: {e}"))?;
        let found = found.ok_or_else(|| format!("there is no user {user:?} on this machine"))?;
        let (gid, groups) = match group {
            None => (found.gid, all_groups(&found)),
            Some(name) => {
                let group = Group::from_name(name).map_err(|e| format!("looking up group {name:?}: {e}"))?;
                let gid = group.ok_or_else(|| format!("there is no group {name:?} on this machine"))?.gid;
                (gid, vec![gid.as_raw()])
            }
        };
        let is_own = found.uid == geteuid() && group.is_none();
        if !geteuid().is_root() && !is_own {
            return Err(format!("the worker is not root, so it cannot run a command as {text:?}"));
        }
        let ids = geteuid().is_root().then(|| Ids { uid: found.uid.as_raw(), gid: gid.as_raw(), groups });
        Ok(Self { ids, name: found.name, home: found.dir.to_string_lossy().into_owned() })
    }
}

#[cfg(not(target_vendor = "apple"))]
fn all_groups(user: &User) -> Vec<u32> {
    let own = vec![user.gid.as_raw()];
    let Ok(name) = CString::new(user.name.as_str()) else { return own };
    nix::unistd::getgrouplist(&name, user.gid)
        .map_or(own, |groups| groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
}

#[cfg(target_vendor = "apple")]
fn all_groups(user: &User) -> Vec<u32> {
    let _ = CString::default();
    vec![user.gid.as_raw()]
}
