// The OpenAPI 3.1 document, built from the list of routes and the zod schemas that the same routes check with. Entry:
// buildOpenApi. docs/openapi.json holds a copy, proven equal by `npm run check`.

import { z } from 'zod'
import { SCOPE_NAMES, SCOPES } from '../access/api-key.ts'
import { ERROR_CODES } from '../errors.ts'
import { components, problemSchema } from './components.ts'
import { PROBLEM_TYPE, RETRY_AFTER_SECONDS, STATUS_OF } from './problem-json.ts'
import { errorsOf, type MediaDoc, type ResponseDoc, type Route } from './route.ts'

type Json = Record<string, unknown>

const TAGS: Record<Route['tag'], string> = {
  Compress: 'Everything in one call.',
  Models: 'Uploaded models: ONNX and safetensors.',
  Datasets: 'Inputs and labels to validate with.',
  Uploads: 'Uploads that go on after a broken connection: tus 1.0 (docs/uploads.md).',
  Plans: 'Dry runs.',
  Jobs: 'Compressions, their reports and artifacts.',
  Operation: 'Probes and metrics.',
  Pages: 'For people.',
}

/** `keysRequired` false: the document of a server without keys, where no call needs one. */
export function buildOpenApi(routes: readonly Route[], version: string, keysRequired = true): Json {
  const paths: Record<string, Json> = {}
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method]: operation(route, keysRequired) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tensorpress',
      version,
      summary: 'Compresses ONNX and safetensors models on the GPU, and proves what accuracy is left.',
      description:
        'Upload a model, compress it by a recipe, read the report, download the artifact. Errors are RFC 9457 problem documents with a stable `code`.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    components: { schemas: componentSchemas(), headers: COMMON_HEADERS, securitySchemes: SECURITY_SCHEMES },
  }
}

const COMMON_HEADERS = {
  'X-Request-Id': {
    description: 'Id of the request: the one sent, or a new one. Log lines carry it.',
    schema: { type: 'string' },
  },
  'WWW-Authenticate': { description: 'Bearer and Basic.', schema: { type: 'string' } },
  'Retry-After': { description: 'Seconds after which to try again.', schema: { type: 'integer' } },
}

const KEY_NOTE = `A server without keys serves its own machine only, and asks for none. Scopes: ${SCOPE_NAMES.map(
  (name) => `\`${name}\` (${SCOPES[name]})`,
).join('; ')}.`

const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', description: `\`Authorization: Bearer KEY\`. ${KEY_NOTE}` },
  basic: { type: 'http', scheme: 'basic', description: 'The key as the password; the user name does not matter.' },
}

function componentSchemas(): Json {
  const { schemas } = z.toJSONSchema(components, {
    target: 'draft-2020-12',
    io: 'output',
    unrepresentable: 'any',
    uri: (id) => `#/components/schemas/${id}`,
  })
  return Object.fromEntries(
    Object.entries(schemas as Record<string, Json>)
      .map(([id, schema]) => [id, clean(schema)] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )
}

/** A named schema is referred to, another is written out. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const id = components.get(schema)?.id
  if (id !== undefined) return { $ref: `#/components/schemas/${id}` }
  const whole = z.toJSONSchema(schema, {
    target: 'draft-2020-12',
    io,
    unrepresentable: 'any',
    reused: 'inline',
    metadata: z.globalRegistry,
  }) as Json
  return clean(whole)
}

/** Drops the keys that only stand-alone schemas need, and the bounds that every JSON integer has. */
function clean(value: Json): Json {
  const walk = (node: unknown): unknown => {
    if (Array.isArray(node)) return node.map(walk)
    if (typeof node !== 'object' || node === null) return node
    return Object.fromEntries(
      Object.entries(node)
        .filter(
          ([key, entry]) =>
            key !== '$schema' &&
            key !== '$id' &&
            !(key === 'id' && typeof entry === 'string') &&
            !(key === 'maximum' && entry === Number.MAX_SAFE_INTEGER) &&
            !(key === 'minimum' && entry === Number.MIN_SAFE_INTEGER),
        )
        .map(([key, entry]) => [key, key === 'examples' || key === 'const' || key === 'enum' ? entry : walk(entry)]),
    )
  }
  return walk(value) as Json
}

function operation(route: Route, keysRequired: boolean): Json {
  const parameters = [...pathParameters(route), ...queryParameters(route), ...headerParameters(route)]
  return {
    operationId: route.operationId,
    tags: [route.tag],
    summary: route.summary,
    // OpenAPI 3.1 lets schemes other than OAuth list the roles that a call needs.
    security: route.scope === 'open' || !keysRequired ? [] : [{ bearer: [route.scope] }, { basic: [route.scope] }],
    ...(route.description ? { description: route.description } : {}),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.body
      ? {
          requestBody: {
            description: route.body.description,
            required: route.body.required ?? true,
            content: mapValues(route.body.content, (media) => mediaType(media, 'input')),
          },
        }
      : {}),
    responses: { ...mapValues(route.responses, response), ...problemResponses(route) },
  }
}

function pathParameters(route: Route): Json[] {
  return Object.entries(route.params ?? {}).map(([name, { description, example, pattern }]) => ({
    name,
    in: 'path',
    required: true,
    description,
    schema: { type: 'string', ...(pattern === undefined ? {} : { pattern }) },
    example,
  }))
}

function queryParameters(route: Route): Json[] {
  if (!route.query) return []
  const schema = schemaOf(route.query, 'input')
  const required = (schema['required'] ?? []) as string[]
  return Object.entries(schema['properties'] as Record<string, Json>).map(([name, { description, ...rest }]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    ...(description ? { description } : {}),
    // What is coerced from text has no input type of its own.
    schema: 'type' in rest || 'enum' in rest ? rest : { type: 'integer', ...rest },
  }))
}

function headerParameters(route: Route): Json[] {
  return Object.entries(route.headers ?? {}).map(([name, { description, schema, example, required }]) => ({
    name,
    in: 'header',
    required: required ?? false,
    description,
    schema: schema ?? { type: 'string' },
    ...(example === undefined ? {} : { example }),
  }))
}

function mediaType({ schema, example }: MediaDoc, io: 'input' | 'output'): Json {
  return {
    ...(schema === null ? {} : { schema: schemaOf(schema, io) }),
    ...(example === undefined ? {} : { example }),
  }
}

function response({ description, content, headers, links }: ResponseDoc): Json {
  return {
    description,
    headers: {
      'X-Request-Id': { $ref: '#/components/headers/X-Request-Id' },
      ...mapValues(headers ?? {}, (header) => ({
        description: header.description,
        schema: header.schema ?? { type: 'string' },
        ...(header.example === undefined ? {} : { example: header.example }),
      })),
    },
    ...(content ? { content: mapValues(content, (media) => mediaType(media, 'output')) } : {}),
    ...(links
      ? {
          links: Object.fromEntries(
            links.map((operationId) => [operationId, { operationId, parameters: { id: '$response.body#/id' } }]),
          ),
        }
      : {}),
  }
}

/** One response a status, with an example for each code that has that status. */
function problemResponses(route: Route): Json {
  const byStatus = Map.groupBy(errorsOf(route), (code) => STATUS_OF[code])
  const responses: Json = {}
  for (const [status, group] of [...byStatus].sort(([a], [b]) => a - b)) {
    const list = group.map((code) => `\`${code}\`: ${ERROR_CODES[code].summary}`).join('\n\n')
    const own = route.responses[status]
    if (own) {
      responses[status] = { ...response(own), description: `${own.description}\n\n${list}` }
      continue
    }
    const retry = group.some((code) => RETRY_AFTER_SECONDS[code] !== undefined)
    responses[status] = {
      description: list,
      headers: {
        'X-Request-Id': { $ref: '#/components/headers/X-Request-Id' },
        ...(status === 401 ? { 'WWW-Authenticate': { $ref: '#/components/headers/WWW-Authenticate' } } : {}),
        ...(retry ? { 'Retry-After': { $ref: '#/components/headers/Retry-After' } } : {}),
      },
      content: { [PROBLEM_TYPE]: { schema: schemaOf(problemSchema, 'output') } },
    }
  }
  return responses
}

function mapValues<T, U>(record: Record<string | number, T>, map: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]))
}
