// POST /v1/plans: a dry run. What a recipe would do to each tensor and why, the bytes before and after, and the peak memory.

import { z } from 'zod'
import { ARTIFACT_NAME, MAX_ARTIFACT_NAME_BYTES } from '../jobs/artifact-key.ts'
import { MAX_SHARD_BYTES } from '../jobs/recipe.ts'
import { bytes, component, EXAMPLE_SHA256, sha256 } from './components.ts'
import type { HttpDeps } from './deps.ts'
import { dtype, FORMAT_ERRORS, skipReason } from './models.ts'
import { parse, type Route, sendJson } from './route.ts'

export const recipeInput = z.union([z.string().min(1), z.record(z.string(), z.unknown())]).meta({
  description:
    'A preset (`int8`), an expression of presets (`prune-50+int8`), a recipe as YAML or JSON text, or a recipe object. docs/recipes.md lists presets, methods and keys.',
  examples: ['int8', { steps: [{ method: 'quantize', bits: 8, granularity: 'channel' }] }],
})

export const outputInput = component(
  'OutputOptions',
  'How the artifact is laid out in files.',
  z.strictObject({
    externalData: z
      .union([z.literal('auto'), z.boolean()])
      .optional()
      .meta({ description: 'ONNX: `auto` (the default) uses external data from 2 GB on, or when the model did.' }),
    shardBytes: z
      .int()
      .min(1024)
      .max(MAX_SHARD_BYTES)
      .nullable()
      .optional()
      .meta({ description: 'safetensors: begin a new shard beyond this many bytes; null: one file.' }),
    fileName: z
      .string()
      .min(1)
      .max(MAX_ARTIFACT_NAME_BYTES)
      .regex(
        ARTIFACT_NAME,
        'expected a bare file name: no slash, backslash or control character in it, no dot in front',
      )
      .optional()
      .meta({
        description: `Name of the main file, without folder; at most ${MAX_ARTIFACT_NAME_BYTES} bytes in UTF-8. Absent: the name of the model with the recipe in it.`,
      }),
  }),
)

const planRequest = component(
  'PlanRequest',
  'What to plan.',
  z.strictObject({
    model: sha256.meta({ description: 'Model id.' }),
    recipe: recipeInput,
    output: outputInput.optional(),
  }),
  { model: EXAMPLE_SHA256, recipe: 'int8' },
)

export const resolvedRecipeSchema = component(
  'ResolvedRecipe',
  'The recipe with presets and defaults written out; it can be sent again as a recipe.',
  z.object({
    version: z.literal(1),
    name: z.string(),
    steps: z.array(
      z.object({
        method: z.string(),
        params: z.record(z.string(), z.unknown()),
        select: z.object({
          names: z.array(z.string()),
          exclude: z.array(z.string()),
          roles: z.array(z.string()),
          minElements: z.int(),
        }),
      }),
    ),
  }),
)

const planRowSchema = component(
  'PlanRow',
  'What happens to one tensor and why.',
  z.object({
    name: z.string(),
    dtype,
    shape: z.array(z.int()),
    roles: z.array(z.string()),
    action: z.enum(['keep', 'compress']),
    reason: skipReason.nullable().meta({ description: 'Why it is kept; null when it is compressed.' }),
    detail: z.string(),
    steps: z.array(z.string()),
    prune: z.record(z.string(), z.unknown()).nullable(),
    encode: z.record(z.string(), z.unknown()),
    outputs: z.array(z.object({ part: z.string(), dtype: z.string(), shape: z.array(z.int()), lengthBytes: z.int() })),
    bytesBefore: bytes,
    bytesAfter: bytes,
  }),
)

const planSchema = component(
  'Plan',
  'A dry run: nothing was executed.',
  z.object({
    recipe: resolvedRecipeSchema,
    format: z.enum(['onnx', 'safetensors']),
    tensors: z.array(planRowSchema),
    bytesBefore: bytes,
    bytesAfter: bytes,
    outputFiles: z.array(z.object({ name: z.string(), sizeBytes: bytes })),
    peakMemoryBytes: bytes,
    notes: z.array(z.object({ tensor: z.string().nullable(), note: z.string() })),
  }),
)

export function planRoutes({ service }: HttpDeps): Route[] {
  return [
    {
      method: 'post',
      path: '/v1/plans',
      operationId: 'createPlan',
      scope: 'read',
      tag: 'Plans',
      summary: 'Plan without executing',
      body: { description: 'Model and recipe.', content: { 'application/json': { schema: planRequest } } },
      responses: { 200: { description: 'The plan.', content: { 'application/json': { schema: planSchema } } } },
      errors: [
        'request_invalid',
        'content_type_unsupported',
        'body_too_large',
        'recipe_invalid',
        'not_found',
        ...FORMAT_ERRORS,
      ],
      async handle(request, response) {
        const { model, recipe, output } = parse(planRequest, request.body, 'body')
        sendJson(response, 200, await service.plans.create({ modelId: model, recipe, output: defined(output) }))
      },
    },
  ]
}

/** Leaves out keys that are undefined, which the layers below take for given. */
export function defined<T extends object>(
  value: T | undefined,
): { [K in keyof T]: Exclude<T[K], undefined> } | undefined {
  if (value === undefined) return undefined
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}
