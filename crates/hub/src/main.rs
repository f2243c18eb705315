//! The yurthub binary.

fn main() -> std::process::ExitCode {
    yurt_hub::hub::main(std::env::args_os())
}
