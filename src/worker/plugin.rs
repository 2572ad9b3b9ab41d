//! Plug-ins: jobs that register themselves, wherever they stand in the program.

use super::Builder;

/// Something that [`submit!`](crate::submit) adds to every worker that asks for
/// [`plugins`](Builder::plugins).
pub struct Plugin {
    file: &'static str,
    line: u32,
    add: fn(Builder) -> Builder,
}

inventory::collect!(Plugin);

impl Plugin {
    /// For [`submit!`](crate::submit).
    #[doc(hidden)]
    pub const fn new(file: &'static str, line: u32, add: fn(Builder) -> Builder) -> Self {
        Self { file, line, add }
    }

    /// Adds all of them, by file and line; what one of them gets refused is said with its place.
    pub(super) fn add_all(mut builder: Builder) -> Builder {
        let mut all: Vec<&Self> = inventory::iter::<Self>.into_iter().collect();
        all.sort_by_key(|plugin| (plugin.file, plugin.line));
        for plugin in all {
            let before = builder.registry.refused().len();
            builder = (plugin.add)(builder);
            for sentence in builder.registry.refused().iter_mut().skip(before) {
                sentence.push_str(&format!(" (by {}:{})", plugin.file, plugin.line));
            }
        }
        builder
    }
}

/// Adds jobs to every worker of the program that asks for [`plugins`](crate::worker::Builder::plugins).
///
/// It takes a function of the [`Builder`](crate::worker::Builder), so a new file with one `submit!` is a new
/// job, with all that a builder can do, and no other file changes.
///
/// ```
/// use watchbell::{cron, submit};
///
/// async fn report() {}
///
/// submit!(|worker| worker.schedule("nightly", cron("0 2 * * *"), report));
/// # fn main() {}
/// ```
///
/// A name that is registered twice, or a malformed schedule, stops the start with the reason. The function
/// captures nothing; handlers get what they need as [`State`](crate::State).
#[macro_export]
macro_rules! submit {
    ($add:expr $(,)?) => {
        $crate::__inventory::submit! { $crate::worker::Plugin::new(file!(), line!(), $add) }
    };
}
