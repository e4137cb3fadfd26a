// One route: what it takes, what it answers, and its handler, in one value. app.ts mounts the list, openapi.ts describes the
// same list, so the two cannot differ. `parse` checks a client's value against its zod schema and names the bad field.

import type { Request, Response } from 'express'
import type { z } from 'zod'
import type { Scope } from '../access/api-key.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import { sendBytes } from './send-bytes.ts'

/** A body in one media type. `schema` null: bytes. `input`: described as what a client may send, defaults left out. */
export interface MediaDoc {
  schema: z.ZodType | null
  example?: unknown
}

export interface HeaderDoc {
  description: string
  schema?: Record<string, unknown>
  example?: string | number
  /** Of a request: it is refused without. */
  required?: true
}

export interface ResponseDoc {
  description: string
  content?: Record<string, MediaDoc>
  headers?: Record<string, HeaderDoc>
  /** operationId of calls that take the `id` of the answer as theirs. */
  links?: readonly string[]
}

export interface Route {
  /** `get` takes HEAD too, unless the path has a route of its own for it. */
  method: 'get' | 'post' | 'put' | 'patch' | 'delete' | 'head' | 'options'
  /** OpenAPI template. A parameter listed in `pathLike` may hold `/`. */
  path: string
  pathLike?: string
  operationId: string
  /** What the caller's API key must allow; `open`: no key. Calls with `submit` or `admin` that are no GET are audited. */
  scope: Scope | 'open'
  /** Answered also when as many requests are in work as are allowed. */
  probe?: true
  tag: 'Models' | 'Datasets' | 'Uploads' | 'Plans' | 'Jobs' | 'Compress' | 'Operation' | 'Pages'
  summary: string
  description?: string
  /** `pattern`: what every accepted value matches; absent: any text, of which most names nothing. */
  params?: Record<string, { description: string; example: string; pattern?: string }>
  query?: z.ZodObject
  headers?: Record<string, HeaderDoc>
  /** `required`: true unless it says false. */
  body?: { description: string; required?: boolean; content: Record<string, MediaDoc> }
  responses: Record<number, ResponseDoc>
  /** Codes that this route can answer with, beyond those that every route can. */
  errors: ErrorCode[]
  handle(request: Request, response: Response): Promise<void> | void
}

/** Codes that any route can answer with. */
const COMMON_ERRORS: readonly ErrorCode[] = ['request_invalid', 'origin_forbidden', 'method_not_allowed', 'internal']

/** Every code that a route can answer with, each once. */
export function errorsOf(route: Pick<Route, 'errors' | 'scope' | 'probe'>): ErrorCode[] {
  const access: ErrorCode[] = route.scope === 'open' ? [] : ['unauthorized', 'forbidden']
  const load: ErrorCode[] = route.probe ? [] : ['overloaded', 'too_many_requests']
  return [...new Set([...route.errors, ...access, ...load, ...COMMON_ERRORS])]
}

/** Whether a call of this route is an event for the audit log. An upload is one by its creation, not by each of its pieces. */
export function changesSomething({ method, scope }: Pick<Route, 'method' | 'scope'>): boolean {
  const changes = method === 'post' || method === 'put' || method === 'delete'
  return changes && (scope === 'submit' || scope === 'admin')
}

/** /v1/jobs/{id}/artifacts/{name} -> /v1/jobs/:id/artifacts/*name when `name` may hold slashes. */
export function expressPath(route: Pick<Route, 'path' | 'pathLike'>): string {
  return route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => (name === route.pathLike ? `*${name}` : `:${name}`))
}

/** The decoded value of a path parameter; one that may hold slashes is joined again. */
export function pathParam(request: Request, name: string): string {
  const value = request.params[name] as string | string[] | undefined
  return Array.isArray(value) ? value.join('/') : (value ?? '')
}

/** Throws request_invalid; `context.path` is the place and the field, such as `body.require[0].metric`. */
export function parse<T>(
  schema: z.ZodType<T>,
  value: unknown,
  place: 'body' | 'query' | 'header' | 'path' | 'Upload-Metadata',
): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issues = result.error.issues.flatMap(specific).flatMap((issue) => {
    const keys = issue.code === 'unrecognized_keys' ? issue.keys : [null]
    return keys.map((key) => ({
      path: [...issue.path, ...(key === null ? [] : [key])].reduce<string>(
        (text, part) => (typeof part === 'number' ? `${text}[${part}]` : `${text}.${String(part)}`),
        place,
      ),
      message: key === null ? issue.message : 'unknown field',
    }))
  })
  const first = issues[0]!
  throw new AppError('request_invalid', `${first.path}: ${first.message}`, { path: first.path, issues })
}

/** What fits none of several forms is judged by the form that it comes closest to: the one that gets furthest inside. */
function specific(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue]
  const branches = issue.errors.map((branch) =>
    branch.flatMap((inner) => specific({ ...inner, path: [...issue.path, ...inner.path] })),
  )
  const closest = branches.toSorted((a, b) => depth(b) - depth(a))[0]
  if (closest && depth(closest) > issue.path.length) return closest
  const messages = new Set(branches.flat().map((inner) => inner.message.replace(/^Invalid input: /, '')))
  return [{ ...issue, message: `Invalid input: ${[...messages].join('; or ')}` }]
}

/** Unknown keys count as inside of the object that has them. */
function depth(issues: z.core.$ZodIssue[]): number {
  return Math.max(0, ...issues.map((issue) => issue.path.length + (issue.code === 'unrecognized_keys' ? 1 : 0)))
}

/** Query objects refuse unknown fields, so that a misspelt filter is not silently ignored. */
export function parseQuery<T extends z.ZodObject>(schema: T, request: Request): z.output<T> {
  return parse(schema.strict() as unknown as z.ZodType<z.output<T>>, { ...request.query }, 'query')
}

/** Aborts when the client is gone before the response has been sent. */
export function clientSignal(response: Response): AbortSignal {
  const controller = new AbortController()
  response.once('close', () => {
    if (!response.writableFinished) controller.abort()
  })
  return controller.signal
}

export function sendJson(response: Response, status: number, body: unknown): void {
  if (!response.hasHeader('Cache-Control')) response.set('Cache-Control', 'no-store')
  response.status(status).type('application/json')
  sendBytes(response, Buffer.from(JSON.stringify(body)))
}
