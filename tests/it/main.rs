//! What watchbell promises, one module each.

mod cron;
mod cron_properties;
mod planning;
mod planning_properties;
mod table;
