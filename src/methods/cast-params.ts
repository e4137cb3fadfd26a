// Parameters of the method cast as a recipe gives them; the output is canonical. Formulas: cast.ts.

import { z } from 'zod'

export const castParams = z.strictObject({ dtype: z.enum(['fp16', 'bf16']) })

export type CastParams = z.output<typeof castParams>
