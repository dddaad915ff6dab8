# Runs on seeds that judge nothing -> the settings of the cells that are tuned.
#
# What was chosen is a function of the runs there are (gt/tuning.py), and stands in the plan. This file only says that a set of
# them is there: then the plan is made anew, and asks for more of them, or for the cells with what they have chosen.


checkpoint tune:
    input:
        evaluations_of_trials,
    output:
        touch("results/studies/{study}/tuning/{trials}"),
    localrule: True
