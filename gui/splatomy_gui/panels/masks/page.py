"""The mask page: the frame on show in the middle, what is done with its mask around it."""

from __future__ import annotations

from typing import Any

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QHBoxLayout, QSizePolicy, QToolButton, QVBoxLayout

from splatomy.review import FrameReview, Mask, ReviewState
from splatomy_gui.frames import Frames
from splatomy_gui.layers import Layer
from splatomy_gui.panels.masks import work
from splatomy_gui.panels.masks.automatic import AutomaticMasks
from splatomy_gui.panels.masks.availability import reasons
from splatomy_gui.panels.masks.checks import UNSURE, MaskChecks
from splatomy_gui.panels.masks.clicks import SmartClicks
from splatomy_gui.panels.masks.editing import MaskEditor
from splatomy_gui.panels.masks.inpainting import InpaintPreview
from splatomy_gui.panels.masks.labels import tints
from splatomy_gui.panels.masks.region import RegionBox
from splatomy_gui.panels.masks.side import PreviewBanner, SidePanel, ToolOptions, ToolStrip, wide_button
from splatomy_gui.panels.masks.tools import ToolBox
from splatomy_gui.panels.page import Page, Shell
from splatomy_gui.theme import current_theme
from splatomy_gui.views.frame_view import FrameView
from splatomy_gui.views.mask_tools import larger
from splatomy_gui.widgets.basics import label, row, set_style
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.hold import HoldKey

_MASK = "mask"
_OPACITY = 0.35
_STATES = {
    ReviewState.UNTOUCHED: "nothing was looked for yet",
    ReviewState.PROPOSED: "found by the software, not checked",
    ReviewState.PROPAGATED: "carried over by the software, not checked",
    ReviewState.EDITED: "drawn, not confirmed",
    ReviewState.CONFIRMED: "confirmed",
}


class MaskPage(Page):
    """Every frame with its mask, drawn, made by the software, and confirmed."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        session = self.session
        self.view = FrameView()
        self.editor = MaskEditor(session, self)
        self.automatic = AutomaticMasks(session, self)
        self.checks = MaskChecks(session, self)
        self.clicks = SmartClicks(session, self.editor, self)
        self.inpainting = InpaintPreview(session, self.view, self)
        self.region = RegionBox(session, self.automatic, self.view)
        self.tools = ToolBox(self)
        self.strip = ToolStrip(self.actions_table)
        self.options = ToolOptions()
        self.side = SidePanel(self.actions_table, shell.workspace.picture)
        self.banner = PreviewBanner()
        self.state = label("", wrap=True)
        self.warning = label("", "caution", wrap=True)
        self.inpaint_text = label("", "muted", wrap=True)
        self.ready = False
        """True once what the tools need is loaded."""
        self._opacity, self._comparing = _OPACITY, False
        self._pictured: tuple[Frames, int] | None = None
        self._told_reasons: dict[str, str | None] = {}
        self._lay_out()
        self._listen()
        session.tasks.start("The mask tools cannot be loaded", work.load_tools, lambda _: self._loaded())

    # -- construction ----------------------------------------------------------------------------

    def _lay_out(self) -> None:
        action = self.actions_table["mask_compare"]
        self._hold = HoldKey(action, Qt.Key.Key_O, self._set_comparing)
        self.compare = QToolButton()
        self.compare.setObjectName("framed")
        self.compare.setText("Compare")
        self.compare.setIcon(action.icon())
        # Another theme has other icons.
        action.changed.connect(lambda: self.compare.setIcon(action.icon()))
        self.compare.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.compare.setToolTip(f"{self.actions_table.specs['mask_compare'].tip} (O)")
        self.compare.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.compare.pressed.connect(lambda: self._set_comparing(True))
        self.compare.released.connect(lambda: self._set_comparing(False))
        show, taken_out = (wide_button(self.actions_table, n) for n in ("mask_show", "mask_inpainted"))
        middle = QVBoxLayout()
        middle.setSpacing(5)
        top = row(self.state, show, self.compare, taken_out)
        if isinstance(inner := top.layout(), QHBoxLayout):
            inner.setStretch(0, 1)
        for each in (show, self.compare, taken_out):
            each.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        middle.addWidget(top)
        middle.addWidget(self.options)
        for widget in (self.warning, self.inpaint_text, self.banner):
            middle.addWidget(widget)
            widget.hide()
        middle.addWidget(self.view, 1)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 8, 4, 8)
        layout.addWidget(self.strip)
        layout.addLayout(middle, 1)
        layout.addWidget(self.side)
        self.options.brush_size.setValue(self.tools.brush.size_px)
        self.options.opacity.setValue(round(100 * self._opacity))

    def _listen(self) -> None:
        session, view = self.session, self.view
        view.scrolled.connect(session.clock.step)
        view.resized.connect(lambda steps: self._resize_brush(steps))
        self.options.size_changed.connect(self.tools.set_size)
        self.options.pressure_changed.connect(self.tools.set_pressure)
        self.options.opacity_changed.connect(self._set_opacity)
        self.options.label.chosen.connect(lambda _: setattr(self.editor, "label", self.options.label.label))
        self.side.frame_wanted.connect(self._go_to)
        self.banner.accepted.connect(self._accept)
        self.banner.discarded.connect(lambda: self.clicks.discard() or self.automatic.cancel())
        self.clicks.changed.connect(self._clicks_changed)
        self.automatic.changed.connect(self._preview_changed)
        self.automatic.progressed.connect(self.banner.show_progress)
        self.automatic.told.connect(self.told)
        self.inpainting.found.connect(self._show_available)
        self.inpainting.told.connect(self._tell_inpainted)
        self.checks.changed.connect(self._show_warnings)
        session.clock.changed.connect(lambda *_: self._frame_changed())
        session.case_changed.connect(self._case_changed)
        session.review_changed.connect(lambda _: self._show_frame())
        session.layers.changed.connect(self._layer_changed)
        session.settings.changed.connect(lambda _: self.show_banner())

    def _loaded(self) -> None:
        self.ready = True
        self._show_available()

    def activate(self) -> None:
        self._bind()
        self._pictured = None
        shown = self.actions_table["mask_show"]
        if not shown.isChecked():
            shown.setChecked(True)
        self.session.layers.set([Layer(_MASK, "Mask", opacity=self._opacity)])
        self.inpainting.look()
        self.checks.start()
        self._frame_changed()
        self._show_warnings()

    def deactivate(self) -> None:
        self.tools.cancel()
        self.clicks.accept()
        self._hold.let_go()
        self._opacity = self.session.layers[_MASK].opacity if _MASK in self.session.layers else _OPACITY
        self.session.layers.clear()

    def close_page(self) -> None:
        self.automatic.cancel()
        self.checks.close()

    def _bind(self) -> None:
        clock, editor, automatic = self.session.clock, self.editor, self.automatic
        slots: dict[str, Any] = {
            "mask_swap": self.tools.swap,
            "mask_label": self.options.label.next,
            "mask_smaller": lambda: self._resize_brush(-1),
            "mask_larger": lambda: self._resize_brush(1),
            "mask_show": lambda on: self._change_layer(visible=on),
            "mask_opacity": self._switch_opacity,
            "mask_confirm": self._confirm,
            "mask_reject": editor.reject,
            "mask_next_open": lambda: self._go_to_open(1),
            "mask_previous_open": lambda: self._go_to_open(-1),
            "mask_unsure": self._go_to_unsure,
            "mask_compare": self._hold.press,
            "mask_inpainted": self._switch_inpainted,
            "mask_propose": lambda: automatic.propose(None),
            "mask_propose_frame": lambda: automatic.propose(clock.frame),
            "mask_propagate": lambda: automatic.propagate(back=False, forth=True),
            "mask_propagate_back": lambda: automatic.propagate(back=True, forth=False),
            "mask_propagate_both": lambda: automatic.propagate(back=True, forth=True),
            "mask_propagate_all": automatic.propagate_all,
            "mask_interpolate": automatic.interpolate,
            "mask_accept": self._accept,
            "mask_copy": editor.copy_previous,
            "mask_invert": editor.invert,
            "mask_clear": editor.clear,
            "mask_grow": lambda: editor.grow(1),
            "mask_shrink": lambda: editor.grow(-1),
            "mask_cancel": self._cancel,
            "mask_play": clock.toggle,
            "mask_frame_next": lambda: clock.step(1),
            "mask_frame_previous": lambda: clock.step(-1),
            "mask_frames_next": lambda: clock.step(10),
            "mask_frames_previous": lambda: clock.step(-10),
            "mask_frame_first": lambda: clock.show(0),
            "mask_frame_last": lambda: clock.show(clock.count - 1),
        }
        for name, slot in slots.items():
            self.actions_table.bind(name, slot)
        self.tools.bind()

    # -- the frame on show -----------------------------------------------------------------------

    def _case_changed(self) -> None:
        self.automatic.cancel()
        self.region.put(None)
        self.clicks.forget()
        if self.inpainting.on:
            self.actions_table["mask_inpainted"].setChecked(False)
        self._pictured = None
        self._frame_changed()

    def _frame_changed(self) -> None:
        self.tools.cancel()
        self.clicks.leave()
        self._show_frame()
        if self.isVisible():
            self.inpainting.show_frame()

    def _show_frame(self) -> None:
        frames = self.session.frames
        if frames is None:
            self._pictured = None
            self.view.set_picture(None)
            self.view.set_mask(None)
            return
        if not self.isVisible():
            return
        number = self.session.clock.frame
        if self._pictured != (frames, number):
            self._pictured = (frames, number)
            self.view.set_mirrored(frames.mirrored)
            self.view.set_picture(
                frames.picture(number), frames.caption(number, self.session.clock.number(number))
            )
        self._show_mask()
        self._show_state(number)
        self._show_available()

    def shown_review(self) -> FrameReview:
        """What is known of the frame on show: the preview's, unless it is compared with what was before."""
        number, preview = self.session.clock.frame, self.automatic.preview
        if preview is not None and number in preview.frames and not self._comparing:
            return preview.frames[number]
        return self.session.review.frames[number]

    def shown_mask(self) -> Mask:
        """The mask on show, (H, W)."""
        review = self.session.review
        return self.clicks.over(self.shown_review().hidden(review.height_px, review.width_px))

    def _show_mask(self) -> None:
        by_software = self.shown_review().state in (ReviewState.PROPOSED, ReviewState.PROPAGATED)
        self.view.mask_item.set_colour(current_theme().colour("proposal" if by_software else "mask"))
        self.view.mask_item.set_tints([*tints(self.shown_review()), *self.clicks.tints()])
        self.view.set_mask(self.shown_mask())
        self._show_layer()

    def _show_layer(self) -> None:
        layers = self.session.layers
        if _MASK in layers:
            self.view.mask_item.setOpacity(layers[_MASK].opacity)
            compares_picture = self._comparing and self.automatic.preview is None
            self.view.mask_item.setVisible(layers[_MASK].visible and not compares_picture)

    def _show_state(self, number: int) -> None:
        review = self.session.review
        frame, warnings = self.shown_review(), self.checks.by_frame.get(number, ())
        text = f"{self.shell.workspace.picture} {self.session.clock.number(number)}: ".capitalize()
        text += _STATES[frame.state]
        if frame.state in (ReviewState.PROPOSED, ReviewState.PROPAGATED) and frame.confidence < UNSURE:
            text += f", unsure ({frame.confidence:.0%})"
        self.state.setText(text)
        set_style(self.state, "good" if frame.state is ReviewState.CONFIRMED else "")
        self.warning.setText("\n".join(text.partition(": ")[2].capitalize() for text in warnings))
        self.warning.setVisible(bool(warnings))
        counts = review.counts()
        self.side.show_counts(counts["confirmed"], counts["edited"], len(review))

    def _show_warnings(self) -> None:
        self.side.show_warnings(self.checks.by_frame)
        self.session.show_problems(frozenset(self.checks.by_frame))
        if self.isVisible() and self.session.frames is not None:
            self._show_state(self.session.clock.frame)

    def _show_available(self) -> None:
        if not self.isVisible():
            return
        found = reasons(self)
        for name, reason in found.items():
            if self._told_reasons.get(name, "") != reason:
                self.actions_table.allow(name, reason)
        self._told_reasons = found
        set_available(self.side.confirm, found["mask_confirm"])
        self.side.confirm.setToolTip(self.actions_table["mask_confirm"].toolTip())

    def reason(self, name: str) -> str | None:
        """Why an action cannot be done now, None if it can."""
        return reasons(self)[name]

    # -- layer, comparing, inpainting ------------------------------------------------------------

    def _change_layer(self, **fields: Any) -> None:
        layers = self.session.layers
        if _MASK in layers and any(getattr(layers[_MASK], name) != value for name, value in fields.items()):
            layers.change(_MASK, **fields)

    def show_mask(self) -> None:
        """Whoever draws sees what is drawn."""
        self._change_layer(visible=True)

    def _layer_changed(self, key: str) -> None:
        if key == _MASK and self.isVisible():
            layer = self.session.layers[_MASK]
            self.actions_table["mask_show"].setChecked(layer.visible)
            self.options.opacity.setValue(round(100 * layer.opacity))
            self._show_layer()

    def _set_opacity(self, opacity: float) -> None:
        layers = self.session.layers
        if _MASK in layers and round(100 * layers[_MASK].opacity) != round(100 * opacity):
            layers.change(_MASK, opacity=opacity)

    def _switch_opacity(self) -> None:
        self._set_opacity(0.0 if self.options.opacity.value() > 0 else _OPACITY)

    def _set_comparing(self, on: bool) -> None:
        if on != self._comparing:
            self._comparing = on
            if self.session.frames is not None:
                self._show_mask()

    def _switch_inpainted(self, on: bool) -> None:
        self.inpainting.switch(on)
        self.tools.show_tool()
        self._show_available()

    def _tell_inpainted(self, text: str) -> None:
        self.inpaint_text.setText(text)
        self.inpaint_text.setVisible(bool(text))

    # -- automatic masks -------------------------------------------------------------------------

    def _preview_changed(self) -> None:
        if self.automatic.preview is not None:
            self.tools.cancel()
        self.show_banner()
        self._show_frame()

    def show_banner(self) -> None:
        """What waits for an answer, or what the smart click does."""
        self.banner.follow(self.automatic, self.clicks, self.tools.name == "mask_click")

    def _clicks_changed(self) -> None:
        self.show_banner()
        self._show_frame()
        self.view.update_tool()

    def _accept(self) -> None:
        if not self.clicks.accept():
            self.automatic.accept()

    # -- review ----------------------------------------------------------------------------------

    def _confirm(self) -> None:
        if not (self.tools.finish() or self.clicks.accept()):
            self.editor.confirm()
            self._go_to_open(1)

    def _cancel(self) -> None:
        """The innermost thing first: a stroke, a preview, the inpainted view, then the tool."""
        if self.tools.cancel() or self.clicks.discard() or self.automatic.cancel():
            return
        if self.inpainting.on:
            self.actions_table["mask_inpainted"].setChecked(False)
        else:
            self.tools.choose(None)

    def _go_to(self, frame: int) -> None:
        self.session.clock.pause()
        self.session.clock.show(frame)

    def _go_to_open(self, step: int) -> None:
        frame = self.checks.next_open(step)
        if frame is None:
            self.told.emit("All masks are confirmed.")
        else:
            self._go_to(frame)

    def _go_to_unsure(self) -> None:
        unsure = [n for n in self.checks.unsure(self.session.review) if n != self.session.clock.frame]
        if unsure:
            self._go_to(unsure[0])
        else:
            self.told.emit("A person looked at every frame.")

    def _resize_brush(self, steps: int) -> None:
        self.options.brush_size.setValue(larger(self.tools.brush.size_px, steps))
