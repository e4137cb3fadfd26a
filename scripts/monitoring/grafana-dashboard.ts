// Grafana's JSON (schema 39, Grafana 10 and later) of the rows in dashboard-rows.ts. Entry: grafanaDashboard.

import { type Panel, ROWS } from './dashboard-rows.ts'

const ROW_HEIGHT = 8
const STAT_HEIGHT = 4
const COLUMNS = 24
const DATASOURCE = { type: 'prometheus', uid: '$datasource' }
/** The instances chosen at the top of the page. */
const CHOSEN = 'instance=~"$instance"'

/** A query as Grafana sends it, but for its own variables. */
export function grafanaQuery(expr: string): string {
  return expr.replaceAll('$in', CHOSEN).replaceAll('$rate', '$__rate_interval')
}

export function grafanaDashboard(): object {
  const panels: object[] = []
  let id = 0
  let y = 0
  for (const row of ROWS) {
    panels.push({
      id: ++id,
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { h: 1, w: COLUMNS, x: 0, y },
      panels: [],
    })
    y += 1
    let x = 0
    let height = 0
    for (const panel of row.panels) {
      const h = panel.kind === 'stat' ? STAT_HEIGHT : ROW_HEIGHT
      if (x + panel.width > COLUMNS) {
        y += height
        x = 0
      }
      panels.push({ id: ++id, ...drawn(panel), gridPos: { h, w: panel.width, x, y } })
      x += panel.width
      height = h
    }
    y += height
  }
  return {
    uid: 'tensorpress',
    title: 'Tensorpress',
    tags: ['tensorpress'],
    schemaVersion: 39,
    editable: true,
    graphTooltip: 1,
    time: { from: 'now-6h', to: 'now' },
    refresh: '1m',
    templating: { list: [datasourceVariable(), instanceVariable()] },
    annotations: { list: [] },
    panels,
  }
}

function drawn(panel: Panel): object {
  const { title, description, kind, unit, queries, alarm } = panel
  const named = queries.length === 1 && kind === 'stat' && queries[0]!.legend !== ''
  return {
    type: kind,
    title,
    description,
    datasource: DATASOURCE,
    targets: queries.map(({ expr, legend }, index) => ({
      refId: String.fromCharCode(65 + index),
      datasource: DATASOURCE,
      expr: grafanaQuery(expr),
      legendFormat: legend,
      ...(kind === 'stat' ? { instant: true } : { range: true }),
    })),
    fieldConfig: {
      defaults: {
        unit,
        min: 0,
        ...(kind === 'timeseries'
          ? { custom: { stacking: { mode: panel.stacked ? 'normal' : 'none' }, fillOpacity: 10 } }
          : {}),
        thresholds: { mode: 'absolute', steps: steps(alarm) },
      },
      overrides: [],
    },
    options:
      kind === 'stat'
        ? {
            colorMode: alarm ? 'background' : 'value',
            textMode: named ? 'name' : 'value',
            reduceOptions: { calcs: ['lastNotNull'] },
          }
        : { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
  }
}

function steps(alarm: Panel['alarm']): object[] {
  if (alarm === undefined) return [{ color: 'blue', value: null }]
  const [low, high] = alarm.below === true ? ['red', 'green'] : ['green', 'red']
  return [
    { color: low, value: null },
    { color: high, value: alarm.at },
  ]
}

function datasourceVariable(): object {
  return { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', current: {} }
}

function instanceVariable(): object {
  return {
    name: 'instance',
    label: 'Instance',
    type: 'query',
    datasource: DATASOURCE,
    query: { query: 'label_values(tensorpress_build_info, instance)', refId: 'instance' },
    refresh: 2,
    includeAll: true,
    multi: true,
    allValue: '.*',
    current: { text: 'All', value: '$__all' },
  }
}
