// Parameters of the method prune-magnitude as a recipe gives them; the output is canonical. Formulas: prune-magnitude.ts.

import { z } from 'zod'

export const pruneMagnitudeParams = z
  .strictObject({
    threshold: z.number().min(0).optional(),
    sparsity: z.number().min(0).max(1).optional(),
    scope: z.enum(['tensor', 'global']).optional(),
  })
  .superRefine((value, context) => {
    if ((value.threshold === undefined) === (value.sparsity === undefined)) {
      context.addIssue({ code: 'custom', path: ['sparsity'], message: 'give exactly one of threshold and sparsity' })
    }
    if (value.scope !== undefined && value.sparsity === undefined) {
      context.addIssue({ code: 'custom', path: ['scope'], message: 'scope applies to sparsity, not to threshold' })
    }
  })
  .transform((value) =>
    value.threshold !== undefined
      ? { threshold: value.threshold }
      : { sparsity: value.sparsity ?? 0, scope: value.scope ?? ('tensor' as const) },
  )

export type PruneMagnitudeParams = z.output<typeof pruneMagnitudeParams>
