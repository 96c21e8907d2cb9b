//! The `onnxq` command: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    onnxq::cli::main()
}
