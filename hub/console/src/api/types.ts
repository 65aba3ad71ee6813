// Short names for the API's shapes. The shapes themselves are generated from the hub's OpenAPI document: schema.ts.

import type { components } from "./schema";

type Schemas = components["schemas"];

export type Problem = Schemas["Problem"];
export type System = Schemas["System"];
export type Session = Schemas["SessionOut"];

export type Device = Schemas["DeviceOut"];
export type DeviceModel = Schemas["DeviceModel"];
export type DeviceHealth = Schemas["DeviceHealth"];
export type HealthSpan = Schemas["HealthSpan"];
export type Group = Schemas["GroupOut"];

export type Model = Schemas["ModelOut"];
export type Version = Schemas["VersionOut"];
export type Bundle = Schemas["BundleOut"];

export type Rollout = Schemas["RolloutOut"];
export type QualityRules = Schemas["QualityRules"];
export type RolloutDetail = Schemas["RolloutDetail"];
export type RolloutStage = Schemas["RolloutStageOut"];
export type RolloutDevice = Schemas["RolloutDeviceOut"];
export type RolloutEvent = Schemas["RolloutEventOut"];
export type GateReading = Schemas["GateReading"];
export type RolloutIn = Schemas["RolloutIn"];
export type StageIn = Schemas["StageIn"];
export type GatesIn = Schemas["GatesIn"];

export type Experiment = Schemas["ExperimentOut"];
export type ExperimentDetail = Schemas["ExperimentDetail"];
export type ExperimentArm = Schemas["ExperimentArm"];
export type ExperimentDevice = Schemas["ExperimentDeviceOut"];
export type ExperimentIn = Schemas["ExperimentIn"];

export type DriftGroup = Schemas["DriftGroup"];
export type Judgement = Schemas["JudgementOut"];
export type DeviceHistory = Schemas["DeviceHistoryOut"];
export type PanelReading = Schemas["PanelReading"];
export type Alert = Schemas["AlertOut"];
export type Calibration = Schemas["CalibrationOut"];
export type BundleCalibration = Schemas["BundleCalibrationOut"];
export type GroupAccuracy = Schemas["GroupAccuracy"];

export type SampleRequest = Schemas["SampleRequestOut"];
export type TrainingRun = Schemas["TrainingRunOut"];
export type Trigger = Schemas["TriggerOut"];
export type SliceComparison = Schemas["SliceComparison"];

/** One page of a list; `next` is the cursor of the following one. */
export interface Page<T> {
  items: T[];
  next?: string | null;
}
