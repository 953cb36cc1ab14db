//! Feature gates of the node (kubelet: pkg/features, v1.37) and what this agent has behind them.

use std::collections::BTreeMap;

/// A gate that changes what a node does.
struct Gate {
    name: &'static str,
    /// Whether the feature is there when nothing is said.
    is_on: bool,
    choice: Choice,
}

/// What a user may say of a gate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// The feature cannot be switched any more.
    Locked,
    /// The agent is the same either way, or has the feature only as by default.
    Fixed,
    /// The agent does as it is told.
    Free,
}

const fn locked(name: &'static str) -> Gate {
    Gate { name, is_on: true, choice: Choice::Locked }
}

const fn on(name: &'static str) -> Gate {
    Gate { name, is_on: true, choice: Choice::Fixed }
}

const fn off(name: &'static str) -> Gate {
    Gate { name, is_on: false, choice: Choice::Fixed }
}

const fn free(name: &'static str, is_on: bool) -> Gate {
    Gate { name, is_on, choice: Choice::Free }
}

const GATES: &[Gate] = &[
    free("AllAlpha", false),
    free("AllBeta", false),
    free("CPUManagerPolicyAlphaOptions", false),
    on("CPUManagerPolicyBetaOptions"),
    locked("CPUManagerPolicyOptions"),
    off("ClusterTrustBundle"),
    off("ClusterTrustBundleProjection"),
    on("ContainerCheckpoint"),
    on("ContainerRestartRules"),
    off("ContainerStopSignals"),
    free("CSIVolumeHealth", false),
    free("CustomCPUCFSQuotaPeriod", false),
    locked("DevicePluginCDIDevices"),
    on("DisableCPUQuotaWithExclusiveCPUs"),
    locked("DynamicResourceAllocation"),
    on("EnvFiles"),
    off("EventedPLEG"),
    on("ExecProbeTimeout"),
    on("GracefulNodeShutdown"),
    on("GracefulNodeShutdownBasedOnPodPriority"),
    on("HostnameOverride"),
    on("ImageMaximumGCAge"),
    on("ImageVolume"),
    on("InPlacePodVerticalScaling"),
    off("InPlacePodVerticalScalingExclusiveCPUs"),
    off("InPlacePodVerticalScalingExclusiveMemory"),
    on("KubeletCgroupDriverFromCRI"),
    free("KubeletCrashLoopBackOffMax", true),
    on("KubeletEnsureSecretPulledImages"),
    on("KubeletFineGrainedAuthz"),
    off("KubeletInUserNamespace"),
    on("KubeletPodResourcesDynamicResources"),
    on("KubeletPodResourcesGet"),
    on("KubeletPSI"),
    on("KubeletSeparateDiskGC"),
    on("KubeletServiceAccountTokenForCredentialProviders"),
    locked("KubeletTracing"),
    off("LocalStorageCapacityIsolationFSQuotaMonitoring"),
    off("LoggingAlphaOptions"),
    on("LoggingBetaOptions"),
    locked("MemoryManager"),
    free("MemoryQoS", false),
    on("MutableCSINodeAllocatableCount"),
    on("NodeLogQuery"),
    locked("NodeSwap"),
    off("PodAndContainerStatsFromCRI"),
    on("PodLevelResources"),
    locked("PodLifecycleSleepAction"),
    locked("PodLifecycleSleepActionAllowZero"),
    on("PodLogsQuerySplitStreams"),
    on("PodObservedGenerationTracking"),
    on("PodReadyToStartContainersCondition"),
    on("PreventStaticPodAPIReferences"),
    on("ProcMountType"),
    off("QOSReserved"),
    locked("RecursiveReadOnlyMounts"),
    off("ReduceDefaultCrashLoopBackOffDecay"),
    on("ReloadKubeletServerCertificateFile"),
    on("ResourceHealthStatus"),
    on("RotateKubeletServerCertificate"),
    off("RuntimeClassInImageCriAPI"),
    on("SELinuxChangePolicy"),
    off("SELinuxMount"),
    on("SELinuxMountReadWriteOncePod"),
    locked("SidecarContainers"),
    locked("SizeMemoryBackedVolumes"),
    on("SupplementalGroupsPolicy"),
    on("SystemdWatchdog"),
    off("TopologyManagerPolicyAlphaOptions"),
    on("TopologyManagerPolicyBetaOptions"),
    on("TopologyManagerPolicyOptions"),
    on("UserNamespacesSupport"),
    off("UserNamespacesPodSecurityStandards"),
];

/// Which features are on.
pub(super) struct Gates<'a> {
    given: &'a BTreeMap<String, bool>,
}

impl<'a> Gates<'a> {
    /// Takes what a user says, and tells what of it is wrong.
    pub(super) fn read(given: &'a BTreeMap<String, bool>, problems: &mut Vec<String>) -> Self {
        for (name, value) in given {
            let Some(gate) = GATES.iter().find(|gate| gate.name == name) else {
                problems.push(format!("unrecognized feature gate: {name}"));
                continue;
            };
            match gate.choice {
                Choice::Locked if *value != gate.is_on => problems.push(format!(
                    "cannot set feature gate {name} to {value}, feature is locked to {}",
                    gate.is_on
                )),
                Choice::Fixed if *value != gate.is_on => problems.push(format!(
                    "invalid configuration: featureGates[{name}] is not used by this node agent and must be left at its \
                     default"
                )),
                _ => {}
            }
        }
        Self { given }
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        let usual = || GATES.iter().any(|gate| gate.name == name && gate.is_on);
        self.given.get(name).copied().unwrap_or_else(usual)
    }
}
