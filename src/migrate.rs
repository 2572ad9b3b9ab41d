//! stand-in
pub(crate) async fn check(_: &mut sqlx::PgConnection) -> crate::Result<()> {
    Ok(())
}
