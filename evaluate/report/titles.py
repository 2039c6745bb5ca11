"""The figures' files and titles. Who needs no more than these does not load the library that draws."""

FIGURE_FILE = "learning_rates.png"
HELD_OUT_FILE = "held_out_loss.png"
FINAL_FILE, FORGETTING_FILE = "final_held_out_loss.png", "learning_and_forgetting.png"
COPYING_FILE, WEIGHTS_FILE = "copying.png", "weight_change.png"
TITLES = {
    FIGURE_FILE: "What the exercise sees",
    HELD_OUT_FILE: "What it hides",
    FINAL_FILE: "The valley between too small and too large",
    FORGETTING_FILE: "Learning against forgetting",
    COPYING_FILE: "Copying from the book",
    WEIGHTS_FILE: "How far the weights have moved",
}
FIGURE_FILES = tuple(TITLES)
