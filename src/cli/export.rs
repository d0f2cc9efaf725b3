//! `winsign export`: writes a run's network for other programs.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use winsign_core::{Diagnostic, Error, Store, clean};

use super::{Common, output, show};

pub(crate) const HELP: &str = "\
Examples:
  winsign export 3f09c2aa41d07e55 ticket.safetensors
  winsign export 3f09 ticket.safetensors --force      overwrite the file

Tensors have the names of PyTorch; the mask of the prunable weight L.weight is L.mask. In Python:
  from safetensors.torch import load_file
  tensors = load_file(\"ticket.safetensors\")
  weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(\".mask\")}
  model.load_state_dict(weights)";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The identity of the run, or its first digits
    run: String,
    /// The file to write
    file: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

pub(crate) fn command(common: &Common, Arguments { run, file, force }: &Arguments) -> Result<u8, Diagnostic> {
    let store = Store::open(&common.store)?;
    let directory = store.run(&show::find(&store, run)?);
    let settings = directory.settings()?.ok_or_else(|| Error::NotARun { path: directory.path.clone() })?;
    let not_there = |why: String, help: &str| Diagnostic::new(format!("cannot export {}: {why}", directory.id), help);
    let result = directory.result()?.ok_or_else(|| {
        not_there("the run is not done".to_string(), "finish it with `winsign run`; `winsign show` shows its progress")
    })?;
    let attached = result.network.ok_or_else(|| {
        not_there("a connection has no network".to_string(), "export one of the networks it connects")
    })?;
    if let Some(when) = clean::cleaned(&directory, &attached)? {
        let help = format!(
            "rename {} and compute it again with `winsign run`, or export it from another store",
            directory.result_path().display()
        );
        return Err(not_there(format!("`winsign clean` deleted its network at {when:.0}"), &help));
    }
    // Links are not followed.
    match file.symlink_metadata() {
        Ok(found) if !found.is_file() => {
            let message = format!("cannot write {}: it is not a regular file", file.display());
            return Err(Diagnostic::new(message, "choose another name"));
        }
        Ok(_) if !force => {
            let message = format!("cannot write {}: it already exists", file.display());
            return Err(Diagnostic::new(message, "choose another name, or add --force"));
        }
        _ => {}
    }
    let network = directory.read_network(&attached)?;
    let problem = settings.settings.problem();
    let remaining_ratio = result.outcome.remaining_ratio();
    let about = [
        ("format", "pt".to_string()),
        ("run", directory.id.to_string()),
        ("label", settings.label.clone()),
        ("dataset", problem.dataset.to_string()),
        ("architecture", problem.architecture.to_string()),
        ("remaining_ratio", remaining_ratio.to_string()),
    ];
    let metadata: HashMap<String, String> = about.into_iter().map(|(name, text)| (name.to_string(), text)).collect();
    let bytes = network.export(file, metadata)?;
    if common.json {
        return output::json(&json!({ "run": directory.id, "file": file, "bytes": bytes, "label": settings.label }));
    }
    let (label, count) = (&settings.label, network.tensors.len());
    output::text(&format!("{}: {label} ({}), {count} tensors, {bytes} bytes\n", file.display(), directory.id))
}
