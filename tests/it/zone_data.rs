//! A worker whose time zone data are not the database's: its schedules say so until the two agree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::Database;
use crate::support::ask::one;
use crate::support::journal::Journal;
use crate::support::process::{Orders, Process};
use crate::support::wait::until_true;

const SOON: Duration = Duration::from_secs(40);

/// A zoneinfo directory of its own, gone with its test.
struct Zones(PathBuf);

impl Zones {
    /// One in which these zones are nine hours ahead of UTC, all year.
    fn with_nine_hours_in(zones: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("watchbell-zones-{}", std::process::id()));
        for zone in zones {
            let file = directory.join(zone);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, nine_hours()).unwrap();
        }
        Self(directory)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Zones {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// RFC 8536: two headers, each with one kind of local time and no change; then the rule for ever after.
fn nine_hours() -> Vec<u8> {
    let mut block = b"TZif2".to_vec();
    block.extend([0; 15]);
    for count in [0_u32, 0, 0, 0, 1, 4] {
        block.extend(count.to_be_bytes()); // ut, standard, leap, changes, kinds, letters
    }
    block.extend((9 * 3600_i32).to_be_bytes());
    block.extend([0, 0]);
    block.extend(b"JST\0");
    [&block[..], &block[..], b"\nJST-9\n"].concat()
}

#[tokio::test]
async fn zone_data_that_differ_from_the_database_s_are_told_until_they_agree() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let journal = Journal::new();
    let insert = "insert into watchbell.schedules (name, cron, timezone, handler) \
                  values ('paris', '30 2 1 7 *', 'Europe/Paris', 'work'), ('alike', '30 2 1 7 *', 'Etc/GMT-9', 'work'), \
                         ('utc', '@daily', 'UTC', 'work')";
    sqlx::query(insert).execute(pool).await.unwrap();
    let zones = Zones::with_nine_hours_in(&["Europe/Paris", "Etc/GMT-9"]);
    let orders = Orders::new(&database.url, &journal, "doctored");
    let mut doctored = Process::start_with(&orders, &[("TZDIR", zones.path().as_os_str())]);
    until_true(pool, "select count(*) = 3 from watchbell.schedules where status = 'normal'", SOON).await;
    let told: Vec<(String, String)> =
        sqlx::query_as("select name, tz_mismatch from watchbell.schedules where tz_mismatch is not null")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "paris");
    // 02:30 nine hours ahead is 17:30 of the day before in UTC, which in the summer of Paris is 19:30
    let year = told[0].1.split('-').next().unwrap().to_owned();
    assert_eq!(
        told[0].1,
        format!(
            "{year}-06-30 17:30:00 UTC is {year}-07-01 02:30:00 in Europe/Paris for the worker that planned it and \
             {year}-06-30 19:30:00 for the database: their time zone data differ"
        )
    );
    doctored.kill();
    let _sound = Process::start(&Orders::new(&database.url, &journal, "sound"));
    sqlx::query("update watchbell.schedules set cron = '31 2 1 7 *' where name = 'paris'").execute(pool).await.unwrap();
    until_true(pool, "select count(*) = 3 from watchbell.schedules where status = 'normal'", SOON).await;
    assert_eq!(one::<i64>(pool, "select count(*) from watchbell.schedules where tz_mismatch is not null").await, 0);
}

#[tokio::test]
async fn a_zone_that_the_database_no_longer_knows_stops_nobody() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let sentence: Option<String> =
        sqlx::query_scalar("select watchbell.zone_problem(now(), 'Mars/Olympus', localtimestamp)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(sentence.unwrap(), "the database does not know the time zone Mars/Olympus any more");
}
