// The fuzz targets, one line each: the name, its part of a campaign, and the module that the child process loads.

export interface TargetEntry {
  name: string
  /** Part of the cases of a campaign, relative to the others. */
  weight: number
  module: string
}

const WEIGHTS = {
  onnx: 15,
  'external-data': 8,
  safetensors: 14,
  shards: 9,
  npz: 8,
  npy: 14,
  json: 14,
  protobuf: 6,
  recipe: 4,
  require: 7,
  multipart: 1,
  tus: 1,
} as const

export const TARGETS: readonly TargetEntry[] = Object.entries(WEIGHTS).map(([name, weight]) => ({
  name,
  weight,
  module: new URL(`target-${name}.ts`, import.meta.url).href,
}))
