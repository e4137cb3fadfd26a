// Parameters of the method quantize-dynamic as a recipe gives them; the output is canonical. Formulas: quantize-dynamic.ts.

import { z } from 'zod'

export const quantizeDynamicParams = z.strictObject({})

export type QuantizeDynamicParams = z.output<typeof quantizeDynamicParams>
