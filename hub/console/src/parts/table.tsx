// A table that is a table for screen readers at every width: on a narrow screen its rows become cards, whose cells are
// labelled from `data-label`. The roles are written out, since CSS that changes `display` may take them away.

import { memo, type ReactNode } from "react";

export interface Column<T> {
  title: string;
  cell: (item: T) => ReactNode;
  /** Figures stand to the right. */
  numeric?: boolean;
}

interface TableProps<T> {
  /** What the table holds, for screen readers. */
  label: string;
  columns: readonly Column<T>[];
  items: readonly T[];
  keyOf: (item: T) => string;
}

/** The first column names the row. `columns` must not change between draws of unchanged items. */
export function Table<T>({ label, columns, items, keyOf }: TableProps<T>) {
  return (
    <table className="table" role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column.title} role="columnheader" scope="col" className={column.numeric ? "numeric" : undefined}>
              {column.title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {items.map((item) => (
          <Row key={keyOf(item)} item={item} columns={columns as readonly Column<unknown>[]} />
        ))}
      </tbody>
    </table>
  );
}

/** Redrawn only when its item changed: a thousand rows stay cheap. */
const Row = memo(function Row({ item, columns }: { item: unknown; columns: readonly Column<unknown>[] }) {
  return (
    <tr role="row">
      {columns.map((column, index) => {
        const className = column.numeric ? "numeric" : undefined;
        return index === 0 ? (
          <th key={column.title} role="rowheader" scope="row" className={className}>
            {column.cell(item)}
          </th>
        ) : (
          <td key={column.title} role="cell" data-label={column.title} className={className}>
            {column.cell(item)}
          </td>
        );
      })}
    </tr>
  );
});
