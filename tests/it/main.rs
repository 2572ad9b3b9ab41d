//! What watchbell promises, one module each.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect is to panic")]

mod cron;
mod cron_properties;
mod planning;
mod planning_properties;
mod table;
