// The map: outlines on a canvas, coloured by value; Leaflet moves, zooms and tells what lies under the pointer.
"use strict";

/** Features smaller than this many screen pixels are drawn as a symbol. */
const SMALLEST = 4;
const SYMBOL_RADIUS = 3;

/** Among more features than this, outlines of those that are narrower than some pixels would hide their colours. */
const MANY = 2000;
const NARROW = 10;

/** A polygon that turns into a dot where the map is too small for its outline. */
const FeatureShape = L.Polygon.extend({
  _updateBounds() {
    L.Polygon.prototype._updateBounds.call(this);
    const box = this._rawPxBounds, size = box && box.isValid() ? box.getSize() : null;
    this._isSmall = size !== null && Math.max(size.x, size.y) < SMALLEST;
    this._isNarrow = size !== null && Math.min(size.x, size.y) < NARROW;
    this.options.stroke = this.options.weight > 1 || !(this.options.isOneOfMany && this._isNarrow);
    if (!this._isSmall) return;
    this._point = box.getCenter();
    this._radius = this.options.isOneOfMany ? SMALLEST / 2 : SYMBOL_RADIUS;
    const reach = L.point(SYMBOL_RADIUS + 2, SYMBOL_RADIUS + 2);
    this._pxBounds = L.bounds(this._point.subtract(reach), this._point.add(reach));
  },
  _empty() { // as a dot is asked whether it is outside of the view
    return !this._renderer._bounds.intersects(this._pxBounds);
  },
  _updatePath() {
    if (this._isSmall) this._renderer._updateCircle(this);
    else L.Polygon.prototype._updatePath.call(this);
  },
  _containsPoint(point) {
    if (this._isSmall) return point.distanceTo(this._point) <= SYMBOL_RADIUS + this._clickTolerance() + 1;
    return L.Polygon.prototype._containsPoint.call(this, point);
  },
});

class FeatureMap {
  /**
   * @param {HTMLElement} place
   * @param {Features} features
   * @param {{choose: function(number, boolean), describe: function(number): string}} page
   */
  constructor(place, features, page) {
    this.page = page;
    this.place = place;
    this.map = L.map(place, {
      attributionControl: false, preferCanvas: true, zoomSnap: 0.25, maxZoom: 20, minZoom: 1, worldCopyJump: false,
      fadeAnimation: false,
    });
    const renderer = L.canvas({ padding: 0.2 }), style = { renderer, weight: 1, fillOpacity: 1, color: ink("outline"), isOneOfMany: features.count > MANY };
    this.hatch = hatching();
    this.shapes = features.outlines.map((polygons, p) => {
      const anchor = features.anchors[p];
      if (!anchor) return null;
      const options = { ...style, fillColor: this.hatch, bubblingMouseEvents: false };
      const shape = polygons.length
        ? new FeatureShape(polygons, options)
        : L.circleMarker(anchor, { ...options, radius: SYMBOL_RADIUS + 1 });
      shape.position = p;
      return shape;
    });
    this.group = L.featureGroup(this.shapes.filter(Boolean));
    this.isEmpty = !this.group.getLayers().length;
    if (this.isEmpty) {
      const told = document.createElement("p");
      told.className = "nothing";
      told.textContent = "No feature of the layer has a place on the map.";
      place.append(told);
    } else L.control.scale({ imperial: false, maxWidth: 150 }).addTo(this.map);
    this.listen();
    this.whole();
    this.group.addTo(this.map);
    this.chosen = [];
  }

  listen() {
    this.group.on("click", (event) => {
      const keys = event.originalEvent;
      this.page.choose(event.layer.position, keys.ctrlKey || keys.metaKey || keys.shiftKey);
    });
    this.tip = L.tooltip({ sticky: true, direction: "top", opacity: 1, className: "tip" });
    this.group.on("mousemove", (event) => {
      const text = document.createElement("span");
      text.textContent = this.page.describe(event.layer.position); // a name is text, whatever it looks like
      this.tip.setLatLng(event.latlng).setContent(text);
      if (!this.map.hasLayer(this.tip)) this.tip.addTo(this.map);
    });
    this.group.on("mouseout", () => this.tip.remove());
  }

  /** Show the whole layer. */
  whole() {
    if (this.isEmpty) {
      this.map.setView([0, 0], 1);
      return;
    }
    this.box = this.group.getBounds();
    this.map.fitBounds(this.box, { paddingTopLeft: [48, 12], paddingBottomRight: [14, 30], maxZoom: 18, animate: false });
  }

  /** Colour all features. @param {function(number): (string|null)} colourOf null where there is no value */
  colour(colourOf) {
    for (let p = 0; p < this.shapes.length; p++) {
      const shape = this.shapes[p];
      if (!shape) continue;
      const fillColor = colourOf(p) || this.hatch;
      if (shape.options.fillColor !== fillColor) shape.setStyle({ fillColor });
    }
  }

  /** Draw the outlines of chosen features in their line colours, above all others. */
  choose(chosen) {
    for (const p of this.chosen) {
      const shape = this.shapes[p];
      shape?.setStyle({ color: ink("outline"), weight: 1, stroke: !(shape.options.isOneOfMany && shape._isNarrow) });
    }
    chosen.forEach((p, i) => this.shapes[p]?.setStyle({ color: lineColour(i), weight: 3, stroke: true }).bringToFront());
    this.chosen = [...chosen];
  }

  /** Move to a feature that is outside of the view. */
  show(p) {
    const shape = this.shapes[p];
    if (!shape) return;
    const box = shape.getBounds ? shape.getBounds() : L.latLngBounds([shape.getLatLng()]);
    if (!this.map.getBounds().contains(box)) this.map.fitBounds(box, { maxZoom: Math.max(this.map.getZoom(), 14) });
  }

  /** Take the colours of the page's other form, light or dark. */
  repaint() {
    this.hatch = hatching();
    for (const shape of this.shapes) shape?.setStyle({ color: ink("outline"), fillColor: "" });
    this.choose(this.chosen);
  }

  /** Draw what the map shows onto a canvas, `scale` pixels for each of the page's. */
  drawTo(context, x, y, scale) {
    const box = this.place.getBoundingClientRect();
    context.save();
    context.beginPath();
    context.rect(x, y, box.width * scale, box.height * scale);
    context.clip();
    context.fillStyle = ink("map");
    context.fill();
    for (const canvas of this.place.querySelectorAll("canvas")) {
      const own = canvas.getBoundingClientRect();
      context.drawImage(
        canvas, x + (own.left - box.left) * scale, y + (own.top - box.top) * scale, own.width * scale, own.height * scale);
    }
    context.restore();
    const bar = this.place.querySelector(".leaflet-control-scale-line");
    if (!bar) return;
    const left = x + 10 * scale, low = y + (box.height - 12) * scale, width = bar.offsetWidth * scale;
    context.strokeStyle = context.fillStyle = ink("ink");
    context.lineWidth = 2 * scale;
    context.strokeRect(left, low, width, 0);
    context.font = `${12 * scale}px system-ui, sans-serif`;
    context.fillText(bar.textContent, left, low - 5 * scale);
  }
}
