//! The utilization of GPUs, measured by NVIDIA's management library (NVML), which is looked for when GPUs are used.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use winsign_core::results::GpuUtilization;

use super::GpuId;

/// The name of the library, which is a part of the driver.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The time between two samples. NVML averages the utilization over up to one second.
const INTERVAL: Duration = Duration::from_secs(1);
/// The number of samples in a minute.
const MINUTE: usize = 60;
/// The maximum time that [`Monitor`] waits for its thread.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// A thread that measures GPUs until the monitor is dropped. It is not the thread of the heartbeats, because calls of NVML
/// may hang after a GPU has failed.
pub struct Monitor {
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl Monitor {
    /// Starts to measure these GPUs, and passes what is known to `record` after each sample. Returns `None` without GPUs.
    /// Without NVML, and if it fails, the thread ends.
    pub fn start(gpus: Vec<GpuId>, record: impl Fn(Option<GpuUtilization>) + Send + 'static) -> Option<Monitor> {
        (!gpus.is_empty()).then(|| Monitor::start_with(LIBRARY.as_ref(), INTERVAL, gpus, record))
    }

    fn start_with(
        library: &OsStr,
        interval: Duration,
        gpus: Vec<GpuId>,
        record: impl Fn(Option<GpuUtilization>) + Send + 'static,
    ) -> Monitor {
        let (stop, stopped) = mpsc::channel();
        let (ending, ended) = mpsc::channel::<()>();
        let library = library.to_os_string();
        // If no thread can be started, nothing is measured.
        let _ = std::thread::Builder::new().spawn(move || {
            if let Err(error) = measure(&library, interval, &gpus, &stopped, record) {
                tracing::info!("the utilization of GPUs is not measured: {error}");
            }
            drop(ending);
        });
        Monitor { stop: Some(stop), ended }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.ended.recv_timeout(MAX_WAIT);
    }
}

/// Measures GPUs until `stopped` is closed.
fn measure(
    library: &OsStr,
    interval: Duration,
    gpus: &[GpuId],
    stopped: &Receiver<()>,
    record: impl Fn(Option<GpuUtilization>),
) -> Result<(), NvmlError> {
    let nvml = Nvml::builder().lib_path(library).init()?;
    // A job may hide the GPUs of other ranks from this process.
    let mut meters: Vec<Meter> = gpus.iter().filter_map(|&gpu| Meter::new(&nvml, gpu).ok()).collect();
    if meters.is_empty() {
        return Err(NvmlError::NotFound);
    }
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let sampled = meters.iter_mut().try_for_each(Meter::sample);
        let utilization = summarize(&meters);
        if sampled.is_err() {
            // What was measured last is not recent for long.
            record(utilization.map(|utilization| GpuUtilization { last_minute: None, ..utilization }));
            return sampled;
        }
        record(utilization);
    }
    Ok(())
}

/// The samples of one GPU. Utilizations are in percent.
struct Meter<'n> {
    device: Device<'n>,
    sum: f64,
    count: u32,
    recent: VecDeque<f64>,
    peak_memory: Option<u64>,
}

impl<'n> Meter<'n> {
    fn new(nvml: &'n Nvml, gpu: GpuId) -> Result<Meter<'n>, NvmlError> {
        // The driver does not say whether the identifier is that of a GPU or of an instance of one.
        let device =
            nvml.device_by_uuid(format!("GPU-{gpu}")).or_else(|_| nvml.device_by_uuid(format!("MIG-{gpu}")))?;
        Ok(Meter { device, sum: 0.0, count: 0, recent: VecDeque::new(), peak_memory: None })
    }

    fn sample(&mut self) -> Result<(), NvmlError> {
        if let Some(rates) = if_supported(self.device.utilization_rates())? {
            self.add(f64::from(rates.gpu));
        }
        if let Some(memory) = if_supported(self.device.memory_info())? {
            self.peak_memory = self.peak_memory.max(Some(memory.used));
        }
        Ok(())
    }

    fn add(&mut self, utilization: f64) {
        self.sum += utilization;
        self.count += 1;
        self.recent.push_back(utilization);
        if self.recent.len() > MINUTE {
            self.recent.pop_front();
        }
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }

    fn last_minute(&self) -> Option<f64> {
        (self.recent.len() == MINUTE).then(|| self.recent.iter().sum::<f64>() / MINUTE as f64)
    }
}

/// Returns `None` if the driver or the GPU does not have a measurement: instances of GPUs have no utilization.
fn if_supported<T>(measured: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match measured {
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => Ok(None),
        other => other.map(Some),
    }
}

/// Returns the utilization of all GPUs together; `None` if nothing was measured.
fn summarize(meters: &[Meter]) -> Option<GpuUtilization> {
    let mean = mean(meters.iter().filter_map(Meter::mean));
    let peak_memory = meters.iter().filter_map(|meter| meter.peak_memory).max();
    (mean.is_some() || peak_memory.is_some()).then(|| GpuUtilization {
        gpus: meters.len() as u32,
        mean,
        lowest: meters.iter().filter_map(Meter::mean).reduce(f64::min),
        last_minute: self::mean(meters.iter().filter_map(Meter::last_minute)),
        peak_memory,
    })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;

    const GPU_LOST: u32 = 15;
    const HANGS: u32 = 1000;

    /// A stand-in for NVML, and what a monitor has recorded.
    struct StandIn {
        folder: tempfile::TempDir,
        recorded: Arc<Mutex<Vec<Option<GpuUtilization>>>>,
    }

    impl StandIn {
        fn new(lines: &[String]) -> StandIn {
            let stand_in = StandIn { folder: tempfile::tempdir().unwrap(), recorded: Arc::default() };
            stand_in.set(lines);
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/device/nvml_stand_in.c");
            let mut compiler = Command::new("cc");
            compiler.args(["-shared", "-fPIC", source, "-o"]).arg(stand_in.library());
            compiler.arg(format!("-DVALUES={:?}", stand_in.values()));
            assert!(compiler.status().unwrap().success());
            stand_in
        }

        fn library(&self) -> PathBuf {
            self.folder.path().join(LIBRARY)
        }

        fn values(&self) -> PathBuf {
            self.folder.path().join("values")
        }

        /// Replaces the values of the GPUs, in one step.
        fn set(&self, lines: &[String]) {
            let draft = self.folder.path().join("draft");
            std::fs::write(&draft, lines.join("\n")).unwrap();
            std::fs::rename(&draft, self.values()).unwrap();
        }

        /// Starts to measure the GPUs 1 and 2, a hundred times as often as in reality.
        fn start(&self) -> Monitor {
            let recorded = Arc::clone(&self.recorded);
            let record = move |utilization| recorded.lock().unwrap().push(utilization);
            let gpus = vec![GpuId([1; 16]), GpuId([2; 16])];
            Monitor::start_with(self.library().as_os_str(), INTERVAL / 100, gpus, record)
        }

        fn recorded(&self) -> Vec<Option<GpuUtilization>> {
            self.recorded.lock().unwrap().clone()
        }

        /// Waits for a record after the first `known` that `is_expected` accepts.
        fn wait_for(&self, known: usize, is_expected: impl Fn(&GpuUtilization) -> bool) -> GpuUtilization {
            let began = Instant::now();
            loop {
                let recorded = self.recorded();
                if let Some(found) = recorded.iter().skip(known).flatten().find(|utilization| is_expected(utilization))
                {
                    return *found;
                }
                assert!(began.elapsed() < Duration::from_secs(60), "{recorded:?}");
                std::thread::sleep(INTERVAL / 100);
            }
        }
    }

    fn line(kind: &str, id: u8, status: u32, utilization: i32, memory: u64) -> String {
        format!("{kind}-{} {status} {utilization} {memory}", GpuId([id; 16]))
    }

    #[test]
    fn gpus_are_measured_by_uuid_and_the_lowest_is_known() {
        let other = line("GPU", 9, 0, 1, 900);
        let stand_in = StandIn::new(&[other.clone(), line("GPU", 2, 0, 40, 500), line("GPU", 1, 0, 80, 300)]);
        let monitor = stand_in.start();
        let first = stand_in.wait_for(0, |_| true);
        assert!(stand_in.values().with_extension("started").exists());
        let expected =
            GpuUtilization { gpus: 2, mean: Some(60.0), lowest: Some(40.0), last_minute: None, peak_memory: Some(500) };
        assert_eq!(first, expected);
        let after_a_minute = stand_in.wait_for(0, |utilization| utilization.last_minute.is_some());
        assert_eq!(after_a_minute, GpuUtilization { last_minute: Some(60.0), ..expected });
        assert_eq!(stand_in.recorded().iter().position(|utilization| *utilization == Some(after_a_minute)), Some(59));

        stand_in.set(&[other, line("GPU", 2, 0, 0, 100), line("GPU", 1, 0, 0, 200)]);
        let idle = stand_in.wait_for(60, |utilization| utilization.last_minute == Some(0.0));
        assert!(idle.mean > Some(0.0) && idle.peak_memory == Some(500), "{idle:?}");
        drop(monitor);
        let ended = stand_in.recorded().len();
        std::thread::sleep(INTERVAL / 10);
        assert_eq!(stand_in.recorded().len(), ended, "nothing is measured after the end");
    }

    #[test]
    fn instance_of_a_gpu_has_memory_but_no_utilization() {
        let stand_in = StandIn::new(&[line("MIG", 1, 0, -1, 300)]);
        let _monitor = stand_in.start();
        let first = stand_in.wait_for(0, |_| true);
        let expected = GpuUtilization { gpus: 1, mean: None, lowest: None, last_minute: None, peak_memory: Some(300) };
        assert_eq!(first, expected, "GPU 2 is hidden");
    }

    #[test]
    fn lost_gpu_ends_the_measurement_and_keeps_the_mean() {
        let stand_in = StandIn::new(&[line("GPU", 1, 0, 70, 300)]);
        let monitor = stand_in.start();
        let before = stand_in.wait_for(0, |utilization| utilization.last_minute.is_some());
        stand_in.set(&[line("GPU", 1, GPU_LOST, 70, 300)]);
        // The thread ends without being asked to.
        assert_eq!(monitor.ended.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
        let last = *stand_in.recorded().last().unwrap();
        assert_eq!(last, Some(GpuUtilization { last_minute: None, ..before }));
    }

    #[test]
    fn gpu_that_fails_at_once_or_is_unknown_records_nothing() {
        for values in [line("GPU", 1, GPU_LOST, 70, 300), line("GPU", 9, 0, 70, 300)] {
            let stand_in = StandIn::new(&[values]);
            let monitor = stand_in.start();
            assert_eq!(monitor.ended.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
            assert!(stand_in.recorded().iter().all(Option::is_none));
        }
    }

    #[test]
    fn hanging_library_delays_the_end_by_little() {
        let stand_in = StandIn::new(&[line("GPU", 1, 0, 70, 300)]);
        let monitor = stand_in.start();
        stand_in.wait_for(0, |_| true);
        stand_in.set(&[line("GPU", 1, HANGS, 70, 300)]);
        let mut known = 0;
        while stand_in.recorded().len() > known {
            known = stand_in.recorded().len();
            std::thread::sleep(INTERVAL / 2);
        }
        assert_eq!(monitor.ended.try_recv(), Err(mpsc::TryRecvError::Empty), "the thread hangs");
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || {
            drop(monitor);
            ended.send(())
        });
        end.recv_timeout(Duration::from_secs(60)).expect("the end does not wait for the library");
        assert_eq!(stand_in.recorded().last().unwrap().unwrap().mean, Some(70.0));
    }

    #[test]
    fn machine_without_nvml_records_nothing() {
        let recorded = Arc::new(Mutex::new(0));
        let count = Arc::clone(&recorded);
        let library = "/nonexistent/libnvidia-ml.so.1".as_ref();
        let monitor =
            Monitor::start_with(library, INTERVAL, vec![GpuId([1; 16])], move |_| *count.lock().unwrap() += 1);
        assert_eq!(monitor.ended.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
        assert_eq!(*recorded.lock().unwrap(), 0);
        assert!(Monitor::start(vec![], |_| {}).is_none(), "without GPUs there is no monitor");
    }
}
