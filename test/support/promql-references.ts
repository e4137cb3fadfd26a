// Which metrics, labels and label values a PromQL expression names. Entry: readReferences. Not a parser of PromQL: Prometheus
// itself runs every expression in the same tests; this only finds the names.

export interface Selector {
  metric: string
  matchers: { label: string; operator: '=' | '!=' | '=~' | '!~'; value: string }[]
}

export interface References {
  selectors: Selector[]
  /** Labels of `by`, `without`, `on` and `ignoring`. */
  grouping: string[]
}

export function readReferences(expr: string): References {
  const selectors = [...expr.matchAll(/\b(up|tensorpress_\w+)(?:\{([^}]*)\})?/g)].map(([, metric, matchers]) => ({
    metric: metric!,
    matchers: [...(matchers ?? '').matchAll(/(\w+)(=~|!~|!=|=)"([^"]*)"/g)].map(([, label, operator, value]) => ({
      label: label!,
      operator: operator as '=' | '!=' | '=~' | '!~',
      value: value!,
    })),
  }))
  const grouping = [...expr.matchAll(/\b(?:by|without|on|ignoring) \(([^)]*)\)/g)].flatMap(([, list]) =>
    list!.split(',').map((label) => label.trim()),
  )
  return { selectors, grouping }
}
