//! stub
use crate::study::sweep::SweepError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Launcher {
    Srun,
    Mpirun,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub path: Option<PathBuf>,
    pub launcher: Launcher,
    pub mpi: String,
    pub partition: Option<String>,
    pub account: Option<String>,
    pub qos: Option<String>,
    pub constraint: Option<String>,
    pub time: Option<String>,
    pub memory: Option<String>,
    pub grace: u32,
    pub requeue: bool,
    pub gpu_type: Option<String>,
    pub gpus_per_node: Option<u32>,
    pub ranks_per_node: Option<u32>,
    pub pack: u32,
    pub side_by_side: u32,
    pub max_running: Option<u32>,
    pub max_submit: Option<u32>,
    pub setup: String,
    pub sbatch: Vec<String>,
}
impl Default for Profile {
    fn default() -> Profile {
        Profile {
            path: None,
            launcher: Launcher::Srun,
            mpi: "pmix".into(),
            partition: None,
            account: None,
            qos: None,
            constraint: None,
            time: None,
            memory: None,
            grace: 120,
            requeue: true,
            gpu_type: None,
            gpus_per_node: None,
            ranks_per_node: None,
            pack: 1,
            side_by_side: 1,
            max_running: None,
            max_submit: None,
            setup: String::new(),
            sbatch: vec![],
        }
    }
}
impl Profile {
    pub fn find(_: &str) -> Result<Profile, SweepError> {
        Ok(Profile::default())
    }
    pub fn refused(&self, _: &str) -> Option<SweepError> {
        None
    }
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SweepError> {
        match key {
            "partition" => self.partition = Some(value.into()),
            "time" => self.time = Some(value.into()),
            "sbatch" => self.sbatch.push(value.into()),
            _ => {}
        }
        Ok(())
    }
}
