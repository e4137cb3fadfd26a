// Presets as data: each name stands for recipe steps. Preset expressions (`prune-50+int8`) are their steps in order.
// The meaning by use of the weight (channel axis, fall-backs) follows from each tensor's legal encodings, see plan-job.ts.

/** A recipe step before defaults: `method`, its parameters, and an optional `select`. */
export interface PresetStep {
  method: string
  params: Record<string, unknown>
}

export interface Preset {
  name: string
  summary: string
  steps: PresetStep[]
}

const INT8_CHANNEL: PresetStep = { method: 'quantize', params: { bits: 8, granularity: 'channel', symmetric: true } }

export const PRESETS: readonly Preset[] = [
  {
    name: 'int8',
    summary: 'int8 per channel, quarter size, fp32 speed, loads in every runtime',
    steps: [INT8_CHANNEL],
  },
  {
    name: 'int8-dynamic',
    summary:
      'uint8 weights with activations quantized at run time for MatMul and Gemm (faster on CPUs), int8 elsewhere',
    steps: [{ method: 'quantize-dynamic', params: {} }, INT8_CHANNEL],
  },
  {
    name: 'int4',
    summary: 'int4 in symmetric blocks of 32 for matrix weights, int8 per channel elsewhere',
    steps: [
      { method: 'quantize', params: { bits: 4, granularity: 'block', block_size: 32, symmetric: true } },
      INT8_CHANNEL,
    ],
  },
  {
    name: 'int4-asym-b128',
    summary: 'int4 in asymmetric blocks of 128 for matrix weights, int8 per channel elsewhere',
    steps: [
      { method: 'quantize', params: { bits: 4, granularity: 'block', block_size: 128, symmetric: false } },
      INT8_CHANNEL,
    ],
  },
  { name: 'fp16', summary: 'fp16 storage, half size', steps: [{ method: 'cast', params: { dtype: 'fp16' } }] },
  {
    name: 'bf16',
    summary: 'bf16 storage, half size, the range of fp32',
    steps: [{ method: 'cast', params: { dtype: 'bf16' } }],
  },
  {
    name: 'prune-50',
    summary: 'the smaller half of all weights becomes zero; the file shrinks only under zstd (prune-1 to prune-99)',
    steps: [{ method: 'prune-magnitude', params: { sparsity: 0.5, scope: 'global' } }],
  },
  {
    name: 'deadzone-8',
    summary: 'int8 per tensor, the smallest 30 % of each tensor rounded to zero',
    steps: [{ method: 'quantize-deadzone', params: { sparsity: 0.3 } }],
  },
]

/** The preset of that name; `prune-<n>` exists for every whole percent from 1 to 99. */
export function findPreset(name: string): Preset | undefined {
  const percent = /^prune-([1-9][0-9]?)$/.exec(name)?.[1]
  if (percent !== undefined) {
    return {
      name,
      summary: `the smallest ${percent} % of all weights become zero`,
      steps: [{ method: 'prune-magnitude', params: { sparsity: Number(percent) / 100, scope: 'global' } }],
    }
  }
  return PRESETS.find((preset) => preset.name === name)
}
