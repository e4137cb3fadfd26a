// prune-magnitude: keep w where |w| > t, every other value becomes +0. Kept values keep their bits; NaN and Inf stay.
// t is given (`threshold`), or follows from `sparsity`: the smallest f32 magnitude with count(|w| <= t) >= ceil(sparsity * n),
// n counted over one tensor (`scope: tensor`) or over all tensors that the step selects (`scope: global`). Ties all go.
// Source: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks" (magnitude criterion).

import type { CompressionMethod } from './compression-method.ts'
import type { PruneMagnitudeParams } from './prune-magnitude-params.ts'

export const pruneMagnitude: CompressionMethod<PruneMagnitudeParams> = {
  id: 'prune-magnitude',
  stage: 'prune',
  summary: 'set the weights of smallest magnitude to zero',
  needsGraph: false,
  plan(_tensor, params, context) {
    if ('threshold' in params) {
      return {
        kind: 'prune',
        prune: { kind: 'threshold', threshold: params.threshold },
        detail: `values up to ${params.threshold} in magnitude become 0`,
      }
    }
    const percent = `${Number((params.sparsity * 100).toFixed(4))} %`
    return params.scope === 'tensor'
      ? {
          kind: 'prune',
          prune: { kind: 'sparsity', sparsity: params.sparsity },
          detail: `the smallest ${percent} of its values become 0`,
        }
      : {
          kind: 'prune',
          prune: { kind: 'global-sparsity', sparsity: params.sparsity, group: context.stepId },
          detail: `the smallest ${percent} over all tensors of the step become 0`,
        }
  },
}
