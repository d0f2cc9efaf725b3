//! `winsign export`: a run's network, for other programs.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use winsign_core::{Error, Store, clean};

use super::{Common, Failure, output, show};

pub(crate) const HELP: &str = "\
Examples:
  winsign export 3f09c2aa41d07e55 ticket.safetensors
  winsign export 3f09 ticket.safetensors --force      overwrites the file

The file has PyTorch's names; the mask of the prunable weight L.weight is L.mask. In Python:
  from safetensors.torch import load_file
  tensors = load_file(\"ticket.safetensors\")
  weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(\".mask\")}
  model.load_state_dict(weights)";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The run's identity, or the beginning of it
    run: String,
    /// The file to write
    file: PathBuf,
    /// Overwrite the file if it is there
    #[arg(long)]
    force: bool,
}

pub(crate) fn command(common: &Common, Arguments { run, file, force }: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&common.store)?;
    let directory = store.run(&show::find(&store, run)?);
    let settings = directory.settings()?.ok_or_else(|| Error::NotARun { path: directory.path.clone() })?;
    let not_there = |why: String, help: &str| Failure::Usage(format!("{} {why}", directory.id), help.to_string());
    let result = directory.result()?.ok_or_else(|| {
        not_there("is not done: there is no network to export".to_string(), "`winsign show` says how far it is")
    })?;
    let attached = result.network.ok_or_else(|| {
        not_there("is a path between networks and has none of its own".to_string(), "export one of its ends instead")
    })?;
    if let Some(when) = clean::cleaned(&directory, &attached)? {
        let help = format!(
            "rename {}, and `winsign run` computes it again; or export it from another store",
            directory.result_path().display()
        );
        return Err(not_there(format!("is done, but `winsign clean` deleted its network at {when:.0}"), &help));
    }
    // Of the name itself, not of what a link leads to.
    match file.symlink_metadata() {
        Ok(found) if !found.is_file() => {
            let message = format!("{} is not a regular file", file.display());
            return Err(Failure::Usage(message, "choose another name".to_string()));
        }
        Ok(_) if !force => {
            let message = format!("{} exists already", file.display());
            return Err(Failure::Usage(message, "choose another name, or add --force".to_string()));
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
