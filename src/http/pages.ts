// Pages for people: `/`, and `/docs` with Swagger UI from the installed package (no CDN); and the OpenAPI document itself.

import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { z } from 'zod'
import { AppError } from '../errors.ts'
import { mayUse } from './access.ts'
import type { HttpDeps } from './deps.ts'
import { renderFrontPage } from './front-page.ts'
import { buildOpenApi } from './openapi.ts'
import { pathParam, type Route, sendJson } from './route.ts'
import { DOCS_POLICY, PLAIN_PAGE_POLICY } from './security-headers.ts'

/** The files of swagger-ui-dist that the page needs, out of 13 MB. */
const ASSETS: Record<string, string> = {
  'swagger-ui-bundle.js': 'text/javascript',
  'swagger-ui.css': 'text/css',
  'favicon-32x32.png': 'image/png',
}
const ASSET_MAX_AGE_SECONDS = 86_400

const DOCS_PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tensorpress API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="stylesheet" href="/docs/page.css">
<div id="docs"></div>
<noscript>This page needs JavaScript. The same content is in <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/page.js"></script>
`
/** No validatorUrl: it would send the document to a public service. */
const PAGE_SCRIPT = `SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#docs',
  deepLinking: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: false,
  validatorUrl: null,
})
`
const PAGE_STYLE = `body { margin: 0 }
.swagger-ui .topbar { display: none }
.swagger-ui .info { margin: 24px 0 }
`

export function pageRoutes({ service, keys }: HttpDeps, version: string, allRoutes: () => readonly Route[]): Route[] {
  /** With and without keys: a key file may come while the server runs. */
  const documents = new Map<boolean, Record<string, unknown>>()
  const assetFolder = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'))
  const html = { 'text/html': { schema: null } }

  return [
    {
      method: 'get',
      path: '/',
      operationId: 'frontPage',
      scope: 'open',
      tag: 'Pages',
      summary: 'What this server is',
      responses: { 200: { description: 'A page.', content: html } },
      errors: [],
      async handle(request, response) {
        const health = mayUse(response, 'read') ? await service.health() : null
        const origin = `${request.protocol}://${request.get('host') ?? 'localhost'}`
        response.set({ 'Content-Security-Policy': PLAIN_PAGE_POLICY, 'Cache-Control': 'no-store' })
        response.type('text/html').send(renderFrontPage({ version, origin, health, keysRequired: keys.required }))
      },
    },
    {
      method: 'get',
      path: '/openapi.json',
      operationId: 'openApi',
      scope: 'open',
      tag: 'Pages',
      summary: 'This document',
      responses: {
        200: {
          description: 'OpenAPI 3.1.',
          content: { 'application/json': { schema: z.looseObject({ openapi: z.string(), paths: z.looseObject({}) }) } },
        },
      },
      errors: [],
      handle(_request, response) {
        const document = documents.get(keys.required) ?? buildOpenApi(allRoutes(), version, keys.required)
        documents.set(keys.required, document)
        response.set('Cache-Control', 'no-cache')
        sendJson(response, 200, document)
      },
    },
    {
      method: 'get',
      path: '/docs',
      operationId: 'docs',
      scope: 'open',
      tag: 'Pages',
      summary: 'This document as a page',
      responses: { 200: { description: 'A page.', content: html } },
      errors: [],
      handle(_request, response) {
        response.set({ 'Content-Security-Policy': DOCS_POLICY, 'Cache-Control': 'no-cache' })
        response.type('text/html').send(DOCS_PAGE)
      },
    },
    {
      method: 'get',
      path: '/docs/{file}',
      operationId: 'docsFile',
      scope: 'open',
      tag: 'Pages',
      summary: 'Script, style and icon of that page',
      params: { file: { description: 'File name.', example: 'swagger-ui.css' } },
      responses: {
        200: {
          description: 'The file.',
          content: { 'text/javascript': { schema: null }, 'text/css': { schema: null }, 'image/png': { schema: null } },
        },
      },
      errors: ['not_found'],
      async handle(request, response) {
        const file = pathParam(request, 'file')
        if (file === 'page.js') return void response.type('text/javascript').send(PAGE_SCRIPT)
        if (file === 'page.css') return void response.type('text/css').send(PAGE_STYLE)
        const type = Object.hasOwn(ASSETS, file) ? ASSETS[file] : undefined
        if (!type) throw new AppError('not_found', `The documentation page has no file "${file}".`)
        response.set('Cache-Control', `public, max-age=${ASSET_MAX_AGE_SECONDS}`).type(type)
        await new Promise<void>((resolve, reject) => {
          response.sendFile(file, { root: assetFolder, cacheControl: false, dotfiles: 'allow' }, (error) =>
            error && !response.destroyed ? reject(error) : resolve(),
          )
        })
      },
    },
  ]
}
