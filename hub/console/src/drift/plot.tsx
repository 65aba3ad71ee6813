// A uPlot chart that follows its container's width and the colour scheme.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef, useSyncExternalStore } from "react";

/** Colours of the stylesheet, for the canvas. */
export interface Palette {
  ink: string;
  muted: string;
  line: string;
  accent: string;
  bad: string;
  badWash: string;
  accentWash: string;
}

export type PlotOptions = Omit<uPlot.Options, "width" | "height">;

interface PlotProps {
  /** What the chart shows, in words. */
  label: string;
  height: number;
  data: uPlot.AlignedData;
  options: (palette: Palette) => PlotOptions;
  /** Charts that are drawn anew when this changes: whatever `options` depends on. */
  revision: string;
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function watchScheme(listener: () => void): () => void {
  dark.addEventListener("change", listener);
  return () => dark.removeEventListener("change", listener);
}

export function Plot({ label, height, data, options, revision }: PlotProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const newest = useRef({ data, options });
  newest.current = { data, options };
  const scheme = useSyncExternalStore(watchScheme, () => dark.matches);

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const chart = new uPlot(
      { ...newest.current.options(readPalette(element)), width: element.clientWidth, height },
      newest.current.data,
      element,
    );
    plot.current = chart;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth !== chart.width) chart.setSize({ width: element.clientWidth, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
    };
  }, [scheme, height, revision]);

  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);

  return <div ref={place} className="plot" role="img" aria-label={label} />;
}

function readPalette(element: Element): Palette {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: colour("ink"),
    muted: colour("muted"),
    line: colour("line"),
    accent: colour("accent"),
    bad: colour("bad"),
    badWash: colour("bad-wash"),
    accentWash: colour("accent-wash"),
  };
}
