// Holds an answer against what its route documents: the status, the media type, the headers that every answer has, and the
// body against its schema with no field beyond it.

import assert from 'node:assert/strict'
import type { Response } from 'supertest'
import { problemSchema } from '../../src/http/components.ts'
import { PROBLEM_TYPE, STATUS_OF } from '../../src/http/problem-json.ts'
import { errorsOf, type Route } from '../../src/http/route.ts'

export function assertDocumented(routes: readonly Route[], method: string, path: string, response: Response): void {
  const where = `${method.toUpperCase()} ${path} -> ${response.status}`
  assert.ok(response.headers['x-request-id'], `${where}: X-Request-Id`)
  assert.equal(response.headers['x-content-type-options'], 'nosniff', where)
  assert.ok(response.headers['content-security-policy'], `${where}: Content-Security-Policy`)
  assert.equal(response.headers['x-powered-by'], undefined, where)
  const type = String(response.headers['content-type'] ?? '').split(';')[0]
  if (type === PROBLEM_TYPE && method !== 'head') {
    // A 422 of /v1/compress carries its report beside the members of a problem.
    const { report: _report, ...problem } = JSON.parse(response.text) as Record<string, unknown>
    assert.deepEqual(problemSchema.parse(problem), problem, where)
    assert.equal(problem['status'], response.status, where)
  }
  const route = routes.find((entry) => entry.method === method && pattern(entry).test(path.split('?')[0]!))
  if (!route) {
    assert.ok([404, 405, 200, 204, 403].includes(response.status), `${where}: no route, yet an answer`)
    return
  }
  if (type === PROBLEM_TYPE && method === 'head') {
    const statuses = errorsOf(route).map((code) => STATUS_OF[code])
    assert.ok((statuses as number[]).includes(response.status), `${where}: no error of the route has this status`)
    return
  }
  if (type === PROBLEM_TYPE) {
    const { code } = JSON.parse(response.text) as { code: (typeof route.errors)[number] }
    assert.ok(errorsOf(route).includes(code), `${where}: ${code} is not among the errors of the route`)
    assert.equal(STATUS_OF[code], response.status, where)
    return
  }
  const documented = route.responses[response.status]
  assert.ok(documented, `${where}: the status is not documented`)
  for (const name of Object.keys(documented.headers ?? {})) {
    if (name === 'Location' || name === 'ETag') assert.ok(response.headers[name.toLowerCase()], `${where}: ${name}`)
  }
  if (!documented.content) return
  const media = documented.content[type!]
  assert.ok(media, `${where}: ${type} is not documented`)
  if (!media.schema) return
  const body: unknown = JSON.parse(response.text)
  assert.deepEqual(media.schema.parse(body), body, `${where}: the body is not as documented`)
}

function pattern(route: Route): RegExp {
  const source = route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => (name === route.pathLike ? '.+' : '[^/]+'))
  return new RegExp(`^${source}$`)
}
