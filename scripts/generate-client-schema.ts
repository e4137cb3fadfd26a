// Writes src/client/generated: schema.ts, the types of the TypeScript client, and operations.ts, the table of its calls, from
// docs/openapi.json. With --check it writes nothing and fails when a file differs. Runs after generate-api-docs.ts, which writes the document.
// openapi-typescript does the same for whole documents, and needs the programming interface that TypeScript 7 has no more.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface Schema {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: Schema | boolean
  items?: Schema
  description?: string
}

interface Operation {
  operationId: string
  summary: string
  parameters?: { name: string; in: 'path' | 'query' | 'header'; required: boolean; schema: Schema }[]
  requestBody?: { content: Record<string, { schema?: Schema }> }
  responses: Record<string, { content?: Record<string, { schema?: Schema }> }>
}

interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}

const root = join(import.meta.dirname, '..')
const FOLDER = join('src', 'client', 'generated')
const document = JSON.parse(readFileSync(join(root, 'docs', 'openapi.json'), 'utf8')) as Document

/** Stands in two schemas, a hundred members long. */
const codes = document.components.schemas['Error']?.properties?.['code']?.enum ?? []

/** `Error` is taken in JavaScript. */
function exported(name: string): string {
  return name === 'Error' ? 'JobError' : name
}

function typeOf(schema: Schema, indent = ''): string {
  if (schema.$ref !== undefined) return exported(schema.$ref.split('/').at(-1)!)
  if (schema.enum !== undefined) {
    if (schema.enum.length === codes.length && schema.enum.every((code, index) => code === codes[index]))
      return 'ErrorCode'
    return schema.enum.map((value) => JSON.stringify(value)).join(' | ')
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.anyOf !== undefined) return [...new Set(schema.anyOf.map((form) => typeOf(form, indent)))].join(' | ')
  if (Array.isArray(schema.type)) return schema.type.map((type) => typeOf({ ...schema, type }, indent)).join(' | ')
  switch (schema.type) {
    case undefined:
      return 'unknown'
    case 'string':
    case 'boolean':
    case 'null':
      return schema.type
    case 'integer':
    case 'number':
      return 'number'
    case 'array': {
      const item = typeOf(schema.items ?? {}, indent)
      return item.includes(' ') ? `(${item})[]` : `${item}[]`
    }
    case 'object':
      return objectType(schema, indent)
    default:
      throw new Error(`no TypeScript type for ${JSON.stringify(schema)}`)
  }
}

function objectType(schema: Schema, indent: string): string {
  const inner = `${indent}  `
  const rest = schema.additionalProperties
  const members = Object.entries(schema.properties ?? {}).map(([name, member]) => {
    const required = schema.required?.includes(name) ?? false
    return `${comment(member.description, inner)}${inner}${key(name)}${annotation(typeOf(member, inner), required)}\n`
  })
  if (members.length === 0) {
    return `Record<string, ${typeof rest === 'object' ? typeOf(rest, indent) : 'unknown'}>`
  }
  // Objects that may hold more than is listed: {} in JSON Schema, absent where the listed members are all.
  const more = typeof rest === 'object' ? `${inner}[key: string]: unknown\n` : ''
  return `{\n${members.join('')}${more}${indent}}`
}

/** `undefined` is allowed where absent is: a caller passes on what it may not have. */
function annotation(type: string, required: boolean): string {
  return required ? `: ${type}` : `?: ${type} | undefined`
}

function key(name: string): string {
  return /^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name)
}

function comment(text: string | undefined, indent = ''): string {
  return text === undefined ? '' : `${indent}/** ${text.replaceAll('*/', '* /')} */\n`
}

/** Operations of JSON, or of nothing, in and out: those that one function can call. */
function plainOperations(): { method: string; path: string; operation: Operation }[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => method !== 'head' && method !== 'options')
      .filter(([, { requestBody }]) => requestBody === undefined || 'application/json' in requestBody.content)
      .filter(([, operation]) => successTypes(operation) !== null)
      .map(([method, operation]) => ({ method, path, operation })),
  )
}

/** null: something other than JSON comes back. */
function successTypes({ responses }: Operation): string | null {
  const types = new Set<string>()
  for (const [status, { content }] of Object.entries(responses)) {
    if (!status.startsWith('2')) continue
    if (content === undefined) types.add('undefined')
    else if (content['application/json'] === undefined) return null
    else types.add(typeOf(content['application/json'].schema ?? {}, '    '))
  }
  return [...types].join(' | ')
}

function parameters(operation: Operation, place: 'path' | 'query'): string {
  const found = (operation.parameters ?? []).filter((parameter) => parameter.in === place)
  if (found.length === 0) return 'undefined'
  const members = found.map(
    ({ name, required, schema }) => `${key(name)}${annotation(typeOf(schema, '    '), required)}`,
  )
  const optional = found.every(({ required }) => !required)
  return `{ ${members.join('; ')} }${optional ? ' | undefined' : ''}`
}

function operations(): string {
  const entries = plainOperations()
  const types = entries.map(({ operation }) => {
    const body = operation.requestBody?.content['application/json']?.schema
    return [
      `${comment(operation.summary, '  ')}  ${operation.operationId}: {`,
      `    path: ${parameters(operation, 'path')}`,
      `    query: ${parameters(operation, 'query')}`,
      `    body: ${body === undefined ? 'undefined' : typeOf(body, '    ')}`,
      `    result: ${successTypes(operation)}`,
      '  }',
    ].join('\n')
  })
  const table = entries.map(
    ({ method, path, operation }) =>
      `  ${operation.operationId}: { method: '${method.toUpperCase()}', path: '${path}' },`,
  )
  return `export interface Operations {\n${types.join('\n')}\n}\n\nexport const OPERATIONS = {\n${table.join('\n')}\n} as const satisfies Record<keyof Operations, { method: string; path: string }>\n`
}

const schemas = Object.entries(document.components.schemas).map(
  ([name, schema]) => `${comment(schema.description)}export type ${exported(name)} = ${typeOf(schema)}\n`,
)
const HEAD =
  '// Generated from docs/openapi.json by scripts/generate-client-schema.ts (npm run generate); do not edit.\n\n'
const CODES = `${comment('Stable codes of errors; docs/errors.md says what each means.')}export type ErrorCode =${codes
  .map((code) => `\n  | ${JSON.stringify(code)}`)
  .join('')}\n`

function importsOf(text: string): string {
  const used = Object.keys(document.components.schemas)
    .map(exported)
    .filter((name) => new RegExp(`\\b${name}\\b`).test(text.replaceAll(/\/\*.*\*\//g, '')))
  return `import type {\n${used.map((name) => `  ${name},\n`).join('')}} from './schema.ts'\n\n`
}

const calls = operations()
const files = {
  'schema.ts': `${HEAD}${CODES}\n${schemas.join('\n')}`,
  'operations.ts': `${HEAD}${importsOf(calls)}${calls}`,
}
for (const [name, text] of Object.entries(files)) {
  const path = join(root, FOLDER, name)
  let before = ''
  try {
    before = readFileSync(path, 'utf8')
  } catch {
    // A file that is not there yet differs.
  }
  if (before === text) continue
  if (process.argv.includes('--check')) {
    console.error(`${join(FOLDER, name)} differs from docs/openapi.json: run "npm run generate"`)
    process.exitCode = 1
  } else writeFileSync(path, text)
}
