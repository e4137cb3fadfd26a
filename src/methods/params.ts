// The schemas of the methods' parameters by method id, for src/jobs/recipe.ts, which resolves recipes. Strict: unknown keys are
// refused. The output is canonical: defaults filled in, keys that have no effect left out.

import type { z } from 'zod'
import { castParams } from './cast-params.ts'
import { pruneMagnitudeParams } from './prune-magnitude-params.ts'
import { quantizeDeadZoneParams } from './quantize-deadzone-params.ts'
import { quantizeDynamicParams } from './quantize-dynamic-params.ts'
import { quantizeParams } from './quantize-params.ts'

export const METHOD_PARAMS: ReadonlyMap<string, z.ZodType> = new Map<string, z.ZodType>([
  ['prune-magnitude', pruneMagnitudeParams],
  ['quantize', quantizeParams],
  ['quantize-deadzone', quantizeDeadZoneParams],
  ['quantize-dynamic', quantizeDynamicParams],
  ['cast', castParams],
])
