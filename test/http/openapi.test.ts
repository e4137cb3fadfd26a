// The OpenAPI document against the app: every mounted route is in it and the reverse, references resolve, and every operation
// is complete.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ERROR_CODES } from '../../src/errors.ts'
import { buildOpenApi } from '../../src/http/openapi.ts'
import { httpApp } from '../support/http-app.ts'

type Json = Record<string, unknown>
interface Operation {
  operationId: string
  summary: string
  security?: Json[]
  parameters?: { name: string; in: string; schema: Json; description?: string }[]
  requestBody?: { content: Record<string, { schema?: Json }> }
  responses: Record<
    string,
    { description: string; content?: Record<string, { schema?: Json }>; links?: Record<string, Json> }
  >
}

/** What Express has mounted, as "get /v1/models/{id}". */
function mounted(app: unknown): string[] {
  const { stack } = (app as { router: { stack: { route?: { path: string; methods: Record<string, boolean> } }[] } })
    .router
  return stack.flatMap(({ route }) =>
    // The answer to other methods is mounted for all of them.
    route && Object.keys(route.methods).length === 1
      ? Object.keys(route.methods).map((method) => `${method} ${route.path.replaceAll(/[:*](\w+)/g, '{$1}')}`)
      : [],
  )
}

async function document(t: Parameters<typeof httpApp>[0]) {
  const { app, call } = httpApp(t)
  const { body } = await call('get', '/openapi.json').expect(200)
  const paths = body.paths as Record<string, Record<string, Operation>>
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
  return { app, body: body as Json, operations }
}

test('every route of the app is in the document, and the reverse', async (t) => {
  const { app, operations } = await document(t)
  const documented = operations.map(({ method, path }) => `${method} ${path}`)
  assert.deepEqual(documented.sort(), mounted(app).sort())
  assert.ok(documented.length >= 28)
})

test('the calls of the v1 table are all there', async (t) => {
  const { operations } = await document(t)
  const documented = new Set(operations.map(({ method, path }) => `${method} ${path}`))
  const table = `post /v1/models, put /v1/models/{id}, get /v1/models, get /v1/models/{id}, get /v1/models/{id}/tensors,
    delete /v1/models/{id}, get /v1/models/{id}/histogram, post /v1/datasets, get /v1/datasets, get /v1/datasets/{id},
    delete /v1/datasets/{id}, post /v1/plans, post /v1/jobs, get /v1/jobs, get /v1/jobs/{id}, get /v1/jobs/{id}/events,
    delete /v1/jobs/{id}, get /v1/jobs/{id}/report, get /v1/jobs/{id}/artifact, get /v1/jobs/{id}/artifacts,
    get /v1/jobs/{id}/artifacts/{name}, post /v1/compress, get /healthz, get /readyz, get /metrics, get /openapi.json,
    get /docs`
  for (const call of table.split(',').map((entry) => entry.trim())) assert.ok(documented.has(call), call)
})

test('every operation has its parameters, a described success and its errors', async (t) => {
  const { operations } = await document(t)
  const ids = operations.map(({ operation }) => operation.operationId)
  assert.equal(new Set(ids).size, ids.length)
  for (const { method, path, operation } of operations) {
    const where = `${method} ${path}`
    const inPath = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path').map(({ name }) => name)
    assert.deepEqual(inPath.sort(), [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort(), where)
    for (const parameter of operation.parameters ?? []) assert.ok(parameter.schema, `${where}: ${parameter.name}`)
    assert.ok(operation.summary, where)
    const success = Object.keys(operation.responses).filter((status) => status < '300')
    assert.ok(success.length > 0, where)
    for (const [status, response] of Object.entries(operation.responses)) {
      assert.ok(response.description, `${where} ${status}`)
      if (status >= '400' && status !== '503') {
        assert.ok(response.content?.['application/problem+json']?.schema, `${where} ${status}`)
      }
    }
    // Redelivery acts on a job that exists; there is nothing to send with it.
    const bare = operation.operationId === 'redeliverWebhook'
    if (method === 'post' || method === 'put') assert.equal(operation.requestBody === undefined, bare, where)
  }
})

test('every reference resolves, and every error code is in some answer', async (t) => {
  const { body } = await document(t)
  const text = JSON.stringify(body)
  assert.equal(body['openapi'], '3.1.0')
  for (const [, pointer] of text.matchAll(/"\$ref":"#\/([^"]+)"/g)) {
    let node: unknown = body
    for (const key of pointer!.split('/')) node = (node as Json | undefined)?.[key]
    assert.ok(node, pointer)
  }
  for (const code of Object.keys(ERROR_CODES)) {
    // The server answers these before a route is known; `usage` and `server_unreachable` belong to the command line.
    if (['headers_too_large', 'usage', 'server_unreachable'].includes(code)) continue
    assert.ok(text.includes(`\`${code}\``), code)
  }
  assert.ok(!text.includes('9007199254740991'), 'no bounds that only JavaScript has')
})

test('query parameters keep their types, bounds and defaults', async (t) => {
  const { operations } = await document(t)
  const list = operations.find(({ operation }) => operation.operationId === 'listModels')!.operation
  assert.deepEqual(
    list.parameters!.map(({ name, schema }) => ({ name, schema })),
    [
      { name: 'limit', schema: { type: 'integer', default: 50, minimum: 1, maximum: 1000 } },
      { name: 'cursor', schema: { type: 'string', pattern: '^[0-9]{1,15}$' } },
    ],
  )
})

test('the document of a server without keys asks for none; that of one with keys does', async (t) => {
  const { routes } = httpApp(t)
  const securityOf = (keysRequired: boolean) => {
    const { paths } = buildOpenApi(routes, '0', keysRequired) as { paths: Record<string, Record<string, Operation>> }
    return paths['/v1/models']!['get']!.security
  }
  assert.deepEqual(securityOf(true), [{ bearer: ['read'] }, { basic: ['read'] }])
  assert.deepEqual(securityOf(false), [])
})

test('an answer with an id links to the calls that take it', async (t) => {
  const { operations } = await document(t)
  const create = operations.find(({ operation }) => operation.operationId === 'createJob')!.operation
  assert.deepEqual(create.responses['202']?.links?.['getReport'], {
    operationId: 'getReport',
    parameters: { id: '$response.body#/id' },
  })
})
