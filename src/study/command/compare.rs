pub const HELP: &str = "";
#[derive(clap::Args)]
pub struct Arguments {}
pub fn command(_: &super::Common, _: &Arguments) -> Result<u8, super::Failure> {
    Ok(0)
}
