// Parameters of the method quantize as a recipe gives them; the output is canonical. Formulas: quantize.ts.

import { z } from 'zod'
import { BLOCK_SIZES, DEFAULT_PERCENTILE } from './quantize-limits.ts'

export const quantizeParams = z
  .strictObject({
    bits: z.union([z.literal(8), z.literal(4)]).default(8),
    granularity: z.enum(['tensor', 'channel', 'block']).optional(),
    block_size: z.literal(BLOCK_SIZES).optional(),
    symmetric: z.boolean().default(true),
    clip: z.enum(['none', 'percentile', 'mse']).default('none'),
    percentile: z.number().min(50).max(100).optional(),
  })
  .superRefine((value, context) => {
    const granularity = value.granularity ?? (value.bits === 4 ? 'block' : 'channel')
    const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if (value.block_size !== undefined && granularity !== 'block') {
      issue('block_size', `block_size needs granularity block, found ${granularity}`)
    }
    if (value.percentile !== undefined && value.clip !== 'percentile') {
      issue('percentile', `percentile needs clip percentile, found clip ${value.clip}`)
    }
    if (value.clip === 'percentile' && granularity === 'block') {
      issue('clip', 'clip percentile is not defined for granularity block; use mse or none')
    }
    if (value.clip === 'mse' && granularity !== 'block' && !value.symmetric) {
      issue('clip', `clip mse needs symmetric: true for granularity ${granularity}; use percentile or none`)
    }
  })
  .transform((value) => {
    const granularity = value.granularity ?? (value.bits === 4 ? 'block' : 'channel')
    return {
      bits: value.bits,
      granularity,
      ...(granularity === 'block' ? { block_size: value.block_size ?? 32 } : {}),
      symmetric: value.symmetric,
      clip: value.clip,
      ...(value.clip === 'percentile' ? { percentile: value.percentile ?? DEFAULT_PERCENTILE } : {}),
    }
  })

export type QuantizeParams = z.output<typeof quantizeParams>
