// The fuzz targets, one line each: the name, its part of a campaign, and the module that the child process loads.

export interface TargetEntry {
  name: string
  /** Part of the cases of a campaign, relative to the others. */
  weight: number
  module: string
}

const WEIGHTS = {
  onnx: 20,
  'external-data': 10,
  safetensors: 14,
  shards: 10,
  npz: 10,
  npy: 8,
  json: 8,
  protobuf: 6,
  recipe: 7,
  require: 5,
  multipart: 3,
} as const

export const TARGETS: readonly TargetEntry[] = Object.entries(WEIGHTS).map(([name, weight]) => ({
  name,
  weight,
  module: new URL(`target-${name}.ts`, import.meta.url).href,
}))
