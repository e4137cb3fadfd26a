// Parameters of the method quantize-deadzone as a recipe gives them; the output is canonical. Formulas: quantize-deadzone.ts.

import { z } from 'zod'

export const quantizeDeadZoneParams = z
  .strictObject({
    threshold: z.number().min(0).optional(),
    sparsity: z.number().min(0).max(1).optional(),
    min_sqnr_db: z.number().min(0).max(60).optional(),
  })
  .superRefine((value, context) => {
    const given = [value.threshold, value.sparsity, value.min_sqnr_db].filter((entry) => entry !== undefined).length
    if (given !== 1) {
      context.addIssue({
        code: 'custom',
        path: ['sparsity'],
        message: 'give exactly one of threshold, sparsity and min_sqnr_db',
      })
    }
  })

export type QuantizeDeadZoneParams = z.output<typeof quantizeDeadZoneParams>
