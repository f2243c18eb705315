//! The yurt-controller-manager binary.

fn main() -> std::process::ExitCode {
    yurt_controller_manager::run::main(std::env::args_os())
}
