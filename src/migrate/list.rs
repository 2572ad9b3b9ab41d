//! The migrations in order, and the text that applies one.

use std::fmt::Write;

/// One file of `migrations/`, applied once, in its own transaction.
pub(super) struct Migration {
    pub(super) version: i32,
    pub(super) name: &'static str,
    pub(super) body: &'static str,
    /// The least [`super::VERSION`] a build must have to work beside this change. A migration that an older
    /// build does not notice leaves it where the one before it stands.
    pub(super) min_build: i32,
}

macro_rules! migrations {
    ($($version:literal $name:literal since $min_build:literal,)+) => {
        &[$(Migration {
            version: $version,
            name: $name,
            body: include_str!(concat!("../../migrations/", $name, ".sql")),
            min_build: $min_build,
        }),+]
    };
}

pub(super) const ALL: &[Migration] = migrations![
    1 "0001_schedules" since 1,
    2 "0002_runs" since 1,
    3 "0003_workers" since 1,
    4 "0004_checks" since 1,
    5 "0005_runs_view" since 1,
    6 "0006_cron" since 1,
    7 "0007_schedule_rows" since 1,
    8 "0008_days" since 1,
    9 "0009_wake" since 1,
    10 "0010_ends" since 1,
    11 "0011_comments" since 1,
    12 "0012_activity" since 12,
    13 "0013_schedule_functions" since 13,
    14 "0014_run_functions" since 14,
    15 "0015_views" since 15,
    16 "0016_backfills" since 16,
    17 "0017_zone_names" since 17,
    18 "0018_output" since 18,
    19 "0019_queues" since 19,
    20 "0020_callbacks" since 20,
    21 "0021_callback_functions" since 21,
    22 "0022_watches" since 22,
    23 "0023_cluster_metrics" since 23,
    24 "0024_schedule_policies" since 24,
    25 "0025_schedule_policy_functions" since 25,
    26 "0026_watch_claims" since 26,
    27 "0027_watch_batches" since 27,
    28 "0028_worker_facts" since 28,
    29 "0029_attention" since 29,
    30 "0030_watch_rows" since 30,
    31 "0031_watch_tables" since 31,
    32 "0032_watch_functions" since 32,
    33 "0033_watch_wake" since 33,
    34 "0034_interval_hint" since 34,
    35 "0035_alone" since 35,
    36 "0036_quiet_claims" since 36,
    37 "0037_watch_counts" since 37,
    38 "0038_watch_faults" since 38,
    39 "0039_watch_edits" since 39,
    40 "0040_watch_refusals" since 40,
    41 "0041_watches_visible" since 41,
    42 "0042_watch_remains" since 42,
    43 "0043_watch_output" since 43,
    44 "0044_answers" since 44,
    45 "0045_watch_stays" since 45,
    46 "0046_gone_labels" since 46,
];

/// What every schema begins with: the place where migrations are recorded. Harmless when it is there.
pub(super) const FOUNDATION: &str = "\
do $$ begin
    if to_regnamespace('watchbell') is null then
        create schema watchbell;
    end if;
    if to_regclass('watchbell.migrations') is null then
        create table watchbell.migrations (
            version    integer primary key,
            name       text not null,
            checksum   text not null,
            min_build  integer not null,
            applied_at timestamptz not null default now(),
            applied_by text not null default session_user
        );
    end if;
end $$;
";

impl Migration {
    /// 64-bit FNV-1a of the file, in hex; line ends do not count. It is to notice an edit, not an attacker.
    pub(super) fn checksum(&self) -> String {
        let hash = self
            .body
            .bytes()
            .filter(|&b| b != b'\r')
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}")
    }

    /// One transaction: the change, and the record that it was made.
    ///
    /// The short `lock_timeout` keeps a migration from standing in front of everyone behind a lock it waits for.
    pub(super) fn script(&self) -> String {
        format!(
            "begin;\n\
             set local lock_timeout = '2s';\n\
             set local statement_timeout = 0;\n\
             set local client_min_messages = warning;\n\
             set local search_path = pg_catalog, pg_temp;\n\
             {}\n\
             insert into watchbell.migrations (version, name, checksum, min_build) values ({}, '{}', '{}', {});\n\
             commit;\n",
            self.body,
            self.version,
            self.name,
            self.checksum(),
            self.min_build
        )
    }
}

/// The SQL that a database administrator runs by hand, for versions above `from` (`None`: from nothing).
///
/// A schema made with it passes [`check`](super::check). Run it as the role that is to own the schema, with
/// `psql -v ON_ERROR_STOP=1`.
pub fn sql(from: Option<i32>) -> String {
    let mut text = String::from("-- Run as the schema's owner: psql -v ON_ERROR_STOP=1 -f THIS_FILE\n");
    if from.is_none() {
        text.push_str(FOUNDATION);
    }
    for migration in ALL.iter().filter(|m| m.version > from.unwrap_or(0)) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n-- {}\n{}", migration.name, migration.script());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_one_to_n_and_stand_in_the_names() {
        for (n, migration) in (1..).zip(ALL) {
            assert_eq!(migration.version, n, "{}", migration.name);
            assert!(migration.name.starts_with(&format!("{n:04}_")), "{}", migration.name);
            assert!(migration.body.is_ascii(), "{}: a database may have another encoding", migration.name);
            assert!(migration.min_build <= n, "{} asks for a build that does not know it", migration.name);
        }
        assert!(ALL.is_sorted_by_key(|m| m.min_build));
    }

    #[test]
    fn a_checksum_changes_with_the_text_and_not_with_line_ends() {
        let of = |body| Migration { version: 1, name: "x", body, min_build: 1 }.checksum();
        assert_eq!(of("a\nb"), of("a\r\nb"));
        assert_ne!(of("a\nb"), of("a\nc"));
        assert_eq!(of(""), "cbf29ce484222325"); // the published offset basis
        assert_eq!(of("a"), "af63dc4c8601ec8c"); // and test vector
    }
}
